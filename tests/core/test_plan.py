"""Plans: every mistake is answered with the nearest right name; what is relative is relative to the plan's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.core.plan import Choice, DatasetSpec, Plan, PlanError, load, parse
from adcore.datasets.base import DataError
from adcore.engine import bench, registry
from adcore.engine.cells import contenders

SMALL: dict[str, Any] = {"datasets": ["elpv"], "methods": ["padim"]}


def refusal(content: dict[str, Any]) -> str:
    """What parsing and expanding a plan says against it."""
    with pytest.raises(PlanError) as error:
        contenders(parse(content))
    return str(error.value)


def test_defaults() -> None:
    plan = parse(SMALL)
    assert [image.size for image in plan.every_image] == [256]
    assert plan.seeds == (0,) and plan.metrics == tuple(registry.modules("metrics"))
    assert [contender.names["protocol"] for contender in contenders(plan)] == ["one-class"]
    assert contenders(plan)[0].chain.objects == ()


@pytest.mark.parametrize(
    ("change", "wrong", "right"),
    [
        ({"method": ["padim"]}, "method", "methods"),
        ({"image": {"resise": 64}}, "image.resise", "resize"),
        ({"backbone": {"weight": "random"}}, "backbone.weight", "weights"),
        ({"datasets": [{"name": "elpv", "categorys": ["mono"]}]}, "datasets.0.categorys", "categories"),
        ({"datasets": ["elpv", {"name": "x", "max_trian": 3}]}, "datasets.1.max_trian", "max_train"),
        ({"budget": {"disc_gb": 1}}, "budget.disc_gb", "disk_gb"),
        ({"metrics": ["i_auroc", "p_aurco"]}, "p_aurco", "p_auroc"),
        ({"methods": ["patchcor"]}, "patchcor", "patchcore"),
        ({"methods": [{"name": "patchcore", "corset": 0.1}]}, "corset", "coreset"),
        ({"protocols": ["one-clas"]}, "one-clas", "one-class"),
        ({"enhancers": ["nome"]}, "nome", "none"),
        ({"enhancers": ["none", "psg"], "methods": [{"name": "padim", "enhancers": ["psgg"]}]}, "psgg", "psg"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(change: dict[str, Any], wrong: str, right: str) -> None:
    message = refusal(SMALL | change)
    assert f"'{wrong}'" in message and f"did you mean '{right}'?" in message


def test_an_unknown_kind_of_dataset(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"dataset kind 'elvp'.*did you mean 'elpv'\?.*folder"):
        bench.make_dataset(DatasetSpec(name="elvp"), bench.Layout(tmp_path))


def test_a_name_that_is_near_to_none_is_answered_with_the_list() -> None:
    message = refusal(SMALL | {"zzzzzz": 1})
    assert "did you mean" not in message and "datasets, enhancers, methods" in message


def test_an_enhancer_that_no_method_takes_is_named() -> None:
    message = refusal(SMALL | {"enhancers": ["none", "psg"], "methods": [{"name": "padim", "enhancers": ["none"]}]})
    assert "no method of the plan takes psg" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"methods": ["padim", "padim"]}, "padim"),
        ({"methods": [{"name": "patchcore", "coreset": 0.1}, "patchcore"]}, "patchcore"),  # 0.1 is the default
        ({"datasets": ["elpv", {"name": "elpv", "kind": "folder"}]}, "dataset 'elpv' is listed twice"),
        ({"seeds": [0, 1, 0]}, "seed '0' is listed twice"),
        ({"enhancers": ["none", "none"]}, "enhancers: one of none"),
        ({"metrics": ["i_auroc", "i_auroc"]}, "metric 'i_auroc' is listed twice"),
        ({"datasets": [{"name": "elpv", "categories": ["mono", "mono"]}]}, "category of elpv 'mono' is listed twice"),
        ({"datasets": [{"name": "elpv", "textures": ["a", "a"]}]}, "texture of elpv 'a' is listed twice"),
        ({"methods": [{"name": "padim", "enhancers": ["none", "none"]}]}, "enhancer of padim 'none' is listed twice"),
    ],
)
def test_duplicates(change: dict[str, Any], expected: str) -> None:
    message = refusal(SMALL | change)
    assert expected in message and "twice" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"methods": ["padim"]}, "key 'datasets' is missing"),
        ({"datasets": [{"kind": "folder"}], "methods": ["padim"]}, "key 'datasets.0.name' is missing"),
        (SMALL | {"methods": [{"patchcore": {"coreset": 0.1}}]}, "key 'methods.0.name' is missing"),
        (SMALL | {"methods": []}, "methods"),
        (SMALL | {"datasets": None}, "datasets"),
        (SMALL | {"image": {"resize": 64, "crop": 65}}, "crop 65 is larger than resize 64"),
        (SMALL | {"image": {"resize": 4}}, "image.resize"),
        (SMALL | {"evaluate_at": "orignal"}, "'original'"),
        (SMALL | {"seeds": []}, "seeds"),
        (SMALL | {"seeds": [-1]}, "seeds.0"),
        (SMALL | {"datasets": [{"name": "elpv", "max_test": 1}]}, "datasets.0.max_test"),
        (SMALL | {"methods": [{"name": "patchcore", "coreset": "much"}]}, "method 'patchcore': coreset"),
    ],
)
def test_other_mistakes_name_their_place(content: dict[str, Any], expected: str) -> None:
    assert expected in refusal(content)


def test_every_mistake_is_told_at_once() -> None:
    message = refusal(SMALL | {"image": {"resise": 1}, "sseeds": [0]})
    assert "image.resise" in message and "sseeds" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- padim\n", "a plan is a mapping"),
        (b"", "a plan is a mapping"),
        (b"methods: [padim\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"datasets: [elpv]\nmethods: [padim]\nsede: [1]\n", "did you mean 'seeds'?"),
        (b"datasets: [elpv]\nmethods: [padim]\n1: 2\n", "1"),
        (
            b"datasets: [elpv]\nmethods: [padim]\n\ndatasets: [btad]\n",
            "line 4: key 'datasets' stands in line 1 already",
        ),
        (b"datasets: [{name: a, name: b}]\nmethods: [padim]\n", "line 1: key 'name' stands in line 1 already"),
        (b"datasets: [elpv]\nmethods: [{name: patchcore, coreset: 0,1}]\n", "line 2: YAML reads '0,1' as two entries"),
        (b"datasets: [elpv]\nmethods: [{name: patchcore, coreset: 0,1}]\n", "write 0.1"),
        (b"datasets: " + b"[" * 3000, "not valid YAML"),
    ],
)
def test_a_file_that_is_no_plan_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(PlanError) as error:
        load(path)
    assert "mine.yaml" in str(error.value) and expected in str(error.value)


def test_a_plan_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(PlanError, match=f"cannot read {path}"):
            load(path)


def test_relative_paths_are_relative_to_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plans").mkdir()
    path = tmp_path / "plans" / "mine.yaml"
    path.write_text(
        "datasets:\n  - {name: a, kind: folder, root: ../parts}\n  - {name: b, kind: folder, root: /data/b}\n  - elpv\n"
        "methods: [padim]\nbackbone: {name: resnet18, weights: nets/r18.pth}\n"
    )
    monkeypatch.chdir(tmp_path / "plans")
    plan = load(Path("mine.yaml"))
    roots = [spec.root for spec in plan.datasets]
    assert roots[0] is not None and roots[0].is_absolute() and roots[0].resolve() == tmp_path / "parts"
    assert roots[1:] == [Path("/data/b"), None]
    assert plan.backbone.weights == str(tmp_path / "plans" / "nets" / "r18.pth")


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_words_for_weights_are_no_paths(tmp_path: Path, weights: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"datasets: [elpv]\nmethods: [padim]\nbackbone: {{weights: {weights}}}\n")
    assert load(path).backbone.weights == weights


def load_text(folder: Path, text: str) -> Plan:
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_names_that_yaml_takes_for_something_else_are_names(tmp_path: Path) -> None:
    text = "datasets: [{name: 2024, kind: btad, categories: [01, no, 1.50, 2026-11-25, ~]}]\nmethods: [padim]\n"
    with pytest.raises(PlanError, match=r"datasets\.0\.categories\.4"):  # nothing at all is no name
        load_text(tmp_path, text)
    spec = load_text(tmp_path, text.replace(", ~", "")).datasets[0]
    assert (spec.name, spec.categories) == ("2024", ("01", "no", "1.50", "2026-11-25"))


def test_numbers_of_options_stay_numbers(tmp_path: Path) -> None:
    plan = load_text(tmp_path, "datasets: [elpv]\nmethods: [{name: tfa_net, patch: 8, epochs: 3}]\nseeds: [7]\n")
    assert plan.methods[0].options == {"patch": 8, "epochs": 3}


def test_a_merged_key_may_be_given_anew(tmp_path: Path) -> None:
    text = "datasets: [{name: a, <<: &some {kind: folder, max_test: 4}}, {<<: *some, name: b, max_test: 6}]\n"
    assert [spec.max_test for spec in load_text(tmp_path, text + "methods: [padim]\n").datasets] == [4, 6]


def test_the_home_folder_of_a_path_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    text = "datasets: [{name: a, kind: folder, root: ~/parts}]\nmethods: [padim]\nbackbone: {weights: ~/net.pth}\n"
    plan = load_text(tmp_path, text)
    assert plan.datasets[0].root == tmp_path / "me" / "parts"
    assert plan.backbone.weights == str(tmp_path / "me" / "net.pth")
    assert bench.Layout.of("~/x").workspace == tmp_path / "me" / "x"


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(PlanError, match="~nobody-of-that-name/x: the home folder is not known"):
        bench.Layout.of("~nobody-of-that-name/x")


def test_a_root_without_a_kind_is_answered_with_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"'my_line' has a root but no kind.*write `kind: folder`.*mvtec_ad"):
        bench.make_dataset(DatasetSpec(name="my_line", root=tmp_path), bench.Layout(tmp_path))


def test_a_texture_that_is_no_category_is_named(parts: Path, tmp_path: Path) -> None:
    spec = DatasetSpec(name="parts", kind="folder", root=parts, textures=("clot",))
    with pytest.raises(DataError, match=r"textures: there is no category 'clot' \(did you mean 'cloth'\?\)"):
        bench.read(spec, bench.Layout(tmp_path))


def test_a_texture_beside_the_categories_of_the_plan_is_one(parts: Path, tmp_path: Path) -> None:
    spec = DatasetSpec(name="parts", kind="folder", root=parts, categories=("bolt",), textures=("cloth",))
    assert bench.read(spec, bench.Layout(tmp_path))


def test_the_demo_plan_is_sound() -> None:
    plan = load(Path(__file__).parents[2] / "params.yaml")
    count = sum(len(contender.seeds) for contender in contenders(plan))
    assert count == len(plan.methods) * len(plan.enhancers) * len(plan.protocols) * len(plan.seeds)


def test_a_plan_survives_being_text() -> None:
    """Prefect tasks are handed the plan as JSON."""
    plan = parse(
        SMALL
        | {
            "datasets": [{"name": "a", "kind": "folder", "root": "/x", "categories": ["p"], "max_test": 4}],
            "methods": [{"name": "patchcore", "coreset": 0.01}, "padim"],
            "backbone": {"name": "resnet18", "layers": [1, 2]},
        }
    )
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan and again.methods[0].options == {"coreset": 0.01}


def _label(**options: Any) -> str:
    choice = Choice.model_validate({"name": "patchcore", **options})
    return registry.label(choice, registry.options(choice, registry.method("patchcore").Options, "method"))


def test_labels_tell_the_options_that_differ_from_the_defaults_in_order() -> None:
    assert _label() == _label(coreset=0.1) == "patchcore"
    assert _label(coreset=0.01) == "patchcore(coreset=0.01)"
    assert _label(reweight=False, coreset=0.01) == _label(coreset=0.01, reweight=False)
    assert _label(reweight=False, coreset=0.01) == "patchcore(coreset=0.01,reweight=False)"


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=4))
@settings(deadline=None, max_examples=30)
def test_no_content_is_answered_with_anything_but_a_plan_error(extra: dict[str, Any]) -> None:
    try:
        parse(SMALL | extra)
    except PlanError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"backbone": {"layers": [3, 1]}}, "must ascend"),
        ({"backbone": {"layers": []}}, "backbone.layers"),
        ({"backbone": {"layers": [-1]}}, "must ascend from 0"),
        ({"backbone": {"layers": ["bn1", 2]}}, "mixes numbers and modules"),
        ({"backbone": {"layers": ["bn1", "bn1"]}}, "layer 'bn1' is listed twice"),
        ({"datasets": ["../up"]}, "datasets.0.name"),
        ({"datasets": ["x" * 240]}, "datasets.0.name"),
        ({"datasets": [{"name": "x", "categories": ["a\rb"]}]}, r"as the manifest shows it: 'a\\x0db'"),
        ({"datasets": [{"name": "x", "good": []}]}, "datasets.0.good"),
        ({"device": "gpu"}, "device"),
        ({"budget": {"memory_gb": float("inf")}}, "budget.memory_gb"),
    ],
)
def test_values_that_would_mislead_later_are_refused(content: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        parse(SMALL | content)


def test_a_plan_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"fr\xfch")
    folder.mkdir()
    (folder / "plan.yaml").write_text("datasets: [elpv]\nmethods: [padim]\n")
    with pytest.raises(PlanError, match=r"fr\\xfch/plan.yaml, is not printable text; move it"):
        load(folder / "plan.yaml")
