"""Cells: each key changes with what it stands for, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adcore.core import keys as key_module
from adcore.core.plan import Plan, PlanError, parse
from adcore.datasets.manifest import COLUMNS, cap
from adcore.engine import cells, identity
from adcore.engine.cells import Category, Cell

KEYS = ("fit_key", "maps_key", "key", "gallery_key", "latency_key")
FIT, MAPS, CELL = set(KEYS[:4]), set(KEYS[1:4]), {"key", "gallery_key"}
BASE: dict[str, Any] = {
    "datasets": ["parts"],
    "methods": [{"name": "patchcore", "coreset": 0.5}],
    "backbone": {"name": "resnet18", "weights": "random"},
    "image": {"resize": 64},
}


def row(path: str, **changes: Any) -> dict[str, Any]:
    category, split, defect, _ = path.split("/")
    bad = defect != "good"
    found = {
        "path": path,
        "category": category,
        "split": split,
        "label": int(bad),
        "defect": defect,
        "mask": path.replace("test", "ground_truth") if bad else "",
        "mask_rule": "",
        "pixel_rule": "",
        "subset": "",
        "group": "",
        "sha256": f"content of {path}",
        "mask_sha256": f"mask of {path}" if bad else "",
        **{"width": 64, "height": 64, "orientation": 1, "mode": "RGB", "highest": 0},
        **{"bytes": 100, "error": "", "warning": ""},
    }
    return found | changes


def manifest() -> pd.DataFrame:
    names = [f"{split}/{number}.png" for split in ("train/good", "test/good", "test/dent") for number in range(3)]
    frame = pd.DataFrame([row(f"{category}/{name}") for category in ("bolt", "cloth") for name in names])
    return frame[COLUMNS].reset_index(drop=True)


def expand(
    frame: pd.DataFrame, names: tuple[str, ...] = ("bolt",), root: Path = Path("/data"), **plan: Any
) -> list[Cell]:
    categories = [Category("parts", name, root, frame) for name in names]
    return cells.expand(parse(BASE | plan), categories)


def changed(after: Cell) -> set[str]:
    before = expand(manifest())[0]
    return {name for name in KEYS if getattr(before, name) != getattr(after, name)}


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, set()),
        ({"seeds": [1]}, FIT),
        ({"methods": [{"name": "patchcore", "coreset": 0.25}]}, set(KEYS)),
        ({"methods": ["padim"]}, set(KEYS)),
        ({"image": {"resize": 128}}, set(KEYS)),
        ({"image": {"resize": 64, "crop": 48}}, set(KEYS)),
        ({"backbone": {"name": "resnet34", "weights": "random"}}, set(KEYS)),
        ({"backbone": {"name": "resnet18", "weights": "random", "layers": [1, 2]}}, set(KEYS)),
        ({"evaluate_at": "original"}, CELL),
        ({"device": "cuda"}, {"latency_key"}),
        ({"budget": {"memory_gb": 1, "disk_gb": 1}}, set()),
        ({"metrics": ["i_auroc"]}, set()),
        ({"methods": [{"name": "patchcore", "coreset": 0.5, "reweight": True}]}, set()),  # the default, written out
        ({"enhancers": ["none"], "protocols": ["one-class"]}, set()),
    ],
)
def test_keys_change_exactly_with_the_parts_of_the_plan_that_matter(plan: dict[str, Any], expected: set[str]) -> None:
    assert changed(expand(manifest(), **plan)[0]) == expected


def _set(at: str, /, **values: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        for column, value in values.items():
            frame.loc[frame["path"] == at, column] = value
        return frame

    return change


def _without(path: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame[frame["path"] != path]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("bolt/train/good/1.png", sha256="new"), FIT),
        (_without("bolt/train/good/1.png"), FIT),
        (_set("bolt/train/good/1.png", path="bolt/train/good/renamed.png"), set()),
        (_set("bolt/test/good/1.png", sha256="new"), MAPS),
        (_without("bolt/test/dent/1.png"), MAPS),
        (_set("bolt/test/dent/1.png", mask_sha256="new"), CELL),
        (_set("bolt/train/good/1.png", pixel_rule="max=4095"), FIT),
        (_set("bolt/test/good/1.png", pixel_rule="max=4095"), MAPS),
        (_set("bolt/test/good/1.png", warning="nearly black"), set()),
        (_set("bolt/test/dent/1.png", mask="bolt/ground_truth/dent/moved.png"), set()),
        (_set("bolt/test/dent/1.png", path="bolt/test/dent/renamed.png"), CELL),  # the tables name it
        (_set("bolt/test/dent/1.png", subset="logical"), CELL),
        (_set("bolt/test/dent/1.png", defect="scratch"), CELL),
        (_set("bolt/test/dent/1.png", label=0), CELL),
        (_set("cloth/train/good/1.png", sha256="new"), set()),
        (_set("cloth/test/dent/1.png", mask_sha256="new"), set()),
        (lambda frame: frame.iloc[::-1], set()),
        (lambda frame: frame.assign(bytes=7, mode="L"), set()),
    ],
)
def test_keys_change_exactly_with_the_content_that_matters(
    change: Callable[[pd.DataFrame], pd.DataFrame], expected: set[str]
) -> None:
    assert changed(expand(change(manifest()))[0]) == expected


def test_the_order_of_paths_is_in_the_key_of_a_method_that_reads_it() -> None:
    """TFA-Net's template is the first image by path. A new name that leaves the order alone changes nothing."""

    def fit_key(path: str) -> str:
        frame = _set("bolt/train/good/1.png", path=path)(manifest())
        return expand(frame, methods=[{"name": "tfa_net"}])[0].fit_key

    same = [fit_key(f"bolt/train/good/{name}.png") for name in ("1", "1b")]
    assert same[0] == same[1] != fit_key("bolt/train/good/9.png")


def test_the_first_by_path_is_found_among_rows_that_lie_by_content() -> None:
    frame = manifest()
    frame["sha256"] = [f"{(7 * number) % 18:02d}" for number in range(18)]
    train = expand(frame, ("cloth",))[0].train
    order = cells.by_path(train)
    assert list(train["path"]) != sorted(train["path"])
    assert [train["path"].iloc[place] for place in order] == sorted(train["path"])


def test_a_fit_that_looks_at_test_images_is_one_of_these_test_images() -> None:
    frame = manifest()
    frame.loc[frame["path"] == "bolt/test/good/0.png", "sha256"] = "another"
    for options, same in (({}, True), ({"selection": "best_test"}, False)):
        methods = [{"name": "cfa", **options}]
        before, after = (expand(rows, methods=methods)[0].fit_key for rows in (manifest(), frame))
        assert (before == after) is same


def test_keys_do_not_change_with_the_place_or_the_name_of_the_dataset() -> None:
    frame = manifest()
    assert changed(expand(frame, root=Path("/elsewhere"))[0]) == set()
    assert changed(cells.expand(parse(BASE), [Category("other", "bolt", Path("/data"), frame)])[0]) == set()


PFAM = {"name": "pfam", "epochs": 1}


def links(cell: Cell) -> list[str]:
    return [link.key for link in cell.links]


@pytest.mark.parametrize(
    ("enhancer", "change", "expected"),
    [
        ("sbm", _set("bolt/train/good/1.png", sha256="new"), True),
        ("sbm", _set("cloth/train/good/1.png", sha256="new"), True),  # textures of synthetic defects come from it
        ("pfam", _set("cloth/train/good/1.png", sha256="new"), True),
        ("psg", _set("cloth/train/good/1.png", sha256="new"), False),
        ("lgffp", _set("cloth/train/good/1.png", sha256="new"), False),
        ("sbm", _set("cloth/train/good/1.png", path="cloth/train/good/renamed.png"), False),
        ("sbm", _set("bolt/test/dent/1.png", sha256="new"), False),  # nothing of a test image is seen in training
        ("sbm", _set("cloth/test/good/1.png", sha256="new"), False),
    ],
)
def test_an_enhancer_is_trained_anew_exactly_where_what_it_saw_has_changed(
    enhancer: str, change: Callable[[pd.DataFrame], pd.DataFrame], expected: bool
) -> None:
    before, after = (expand(f, enhancers=[enhancer])[0] for f in (manifest(), change(manifest())))
    assert (links(before) != links(after)) == expected and len(links(before)) == 1
    assert expected <= (before.fit_key != after.fit_key)


@pytest.mark.parametrize(
    "plan",
    [
        {"seeds": [1]},
        {"enhancers": [{"name": "pfam", "epochs": 2}]},
        {"enhancers": [{"name": "pfam", "epochs": 1, "train": "random"}]},
        {"image": {"resize": 128}},
        {"backbone": {"name": "resnet34", "weights": "random"}},
    ],
)
def test_what_an_enhancer_is_trained_with_is_in_its_key_and_in_all_behind_it(plan: dict[str, Any]) -> None:
    before = expand(manifest(), enhancers=[PFAM])[0]
    after = expand(manifest(), **{"enhancers": [PFAM]} | plan)[0]
    assert links(before) != links(after) and before.fit_key != after.fit_key and before.key != after.key


def test_a_chain_takes_its_first_enhancer_from_those_that_have_it_already() -> None:
    sbm, both, pfam = expand(manifest(), enhancers=["sbm", "sbm+pfam", "pfam"])
    assert links(both)[0] == links(sbm)[0] and links(both)[1] != links(pfam)[0]
    assert len({cell.key for cell in (sbm, both, pfam)}) == 3


def test_methods_share_a_fine_tuned_backbone_and_a_module_behind_the_same_levels() -> None:
    patchcore, padim, cfa = expand(manifest(), methods=["patchcore", "padim", "cfa"], enhancers=["sbm"])
    assert links(patchcore) == links(padim) == links(cfa)
    patchcore, padim, cfa = expand(manifest(), methods=["patchcore", "padim", "cfa"], enhancers=["pfam"])
    assert links(padim) == links(cfa) != links(patchcore)  # which reads two levels
    patchcore, padim = expand(manifest(), methods=["patchcore", "padim"], enhancers=["lgffp"])
    assert links(padim) == links(patchcore)  # three levels for any method


def test_a_methods_own_loss_trains_a_module_of_its_own() -> None:
    host = {"name": "pfam", "train": "host_loss", "epochs": 3}
    one, other = expand(manifest(), methods=["cfa", {"name": "cfa", "gamma_d": 2}], enhancers=[host])
    assert links(one) != links(other)
    with pytest.raises(PlanError, match="enhancer 'pfam': train: host_loss needs a method with a loss"):
        expand(manifest(), enhancers=[host])


def test_paper_is_sbm_and_pfam_on_objects_and_pfam_on_textures() -> None:
    plan = parse(BASE | {"enhancers": ["paper", "pfam", "sbm+pfam"]})
    for textures, same in ((frozenset({"bolt"}), 1), (frozenset(), 2)):
        found = cells.expand(plan, [Category("parts", "bolt", Path("/data"), manifest(), textures)])
        assert found[0].key == found[same].key and found[1].key != found[2].key
        assert found[0].title == "parts/bolt patchcore(coreset=0.5) paper seed 0"


def test_a_texture_is_shown_other_defects_than_an_object() -> None:
    plan = parse(BASE | {"enhancers": ["sbm", "psg"]})
    every = [frozenset({"bolt"}), frozenset()]
    either = [cells.expand(plan, [Category("parts", "bolt", Path("/data"), manifest(), t)]) for t in every]
    assert links(either[0][0]) != links(either[1][0]) and links(either[0][1]) == links(either[1][1])


def test_latency_of_an_enhancer_is_shared_and_taken_beside_none() -> None:
    found = expand(manifest(), ("bolt", "cloth"), enhancers=["none", PFAM], seeds=[0, 1])
    assert len({cell.latency_key for cell in found}) == 2
    plain = {cell.title for cell in found if not cell.links}
    assert {cell.plain for cell in found if cell.links} == plain and not any(c.plain for c in found if not c.links)
    sbm, both, pfam = expand(manifest(), enhancers=["sbm", "sbm+pfam", "pfam"])
    assert both.latency_key == pfam.latency_key != sbm.latency_key  # other weights take no other time
    alone = expand(manifest(), enhancers=[PFAM])[0]
    assert alone.plain == "" and alone.latency_key not in {cell.latency_key for cell in found}


def test_weights_that_only_stand_in_are_marked_and_those_of_the_other_rows_are_not() -> None:
    plain, fused = expand(manifest(), enhancers=["none", "lgffp"])
    assert (plain.names["weights"], fused.names["weights"]) == ("random", "stand-in, random")


def test_what_enhanced_a_cell_travels_with_it() -> None:
    cell = expand(manifest(), enhancers=["sbm+pfam"])[0]
    assert [key for kind, key in cell.artifacts if kind == "enhancer"] == links(cell)


def test_latency_is_shared_by_categories_and_seeds() -> None:
    found = expand(manifest(), ("bolt", "cloth"), seeds=[0, 1])
    assert len(found) == 4 and len({cell.latency_key for cell in found}) == 1
    for name in ("fit_key", "maps_key", "key", "gallery_key"):
        assert len({getattr(cell, name) for cell in found}) == 4


def test_models_that_differ_in_what_score_alone_reads_are_fitted_once() -> None:
    methods = [{"name": "patchcore", "reweight": reweight} for reweight in (True, False)]
    weighed, plain = expand(manifest(), methods=methods)
    assert weighed.fit_key == plain.fit_key
    assert all(getattr(weighed, name) != getattr(plain, name) for name in KEYS if name != "fit_key")


def test_keys_of_different_kinds_differ() -> None:
    cell = expand(manifest())[0]
    assert len({getattr(cell, name) for name in KEYS}) == len(KEYS)
    assert dict(cell.artifacts) == {
        "maps": cell.maps_key,
        "cell": cell.key,
        "gallery": cell.gallery_key,
        "latency": cell.latency_key,
    }


def test_a_change_of_the_code_of_a_step_changes_it_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = key_module.code
    expected = {
        "adcore.methods.patchcore:PatchCore": set(KEYS),
        "adcore.engine.compute:Computer.fit": set(KEYS) - {"latency_key"},
        "adcore.engine.compute:Computer.score": MAPS,
        "adcore.engine.compute:Computer._write_cell": CELL,
        "adcore.engine.compute:Computer._write_gallery": {"gallery_key"},
        "adcore.engine.compute:Computer.latency": {"latency_key"},
    }
    for root, keys in expected.items():

        def code(*names: str, outside: tuple[str, ...] = (), root: str = root) -> str:
            return "new" if root in names else real(*names, outside=outside)

        monkeypatch.setattr(identity, "code", code)
        after = expand(manifest())[0]
        monkeypatch.undo()
        assert changed(after) == keys, root


def test_another_version_of_torch_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_module, "libraries", lambda: {"torch": "9.9", "timm": "1.0"})
    after = expand(manifest())[0]
    monkeypatch.undo()
    assert changed(after) == set(KEYS)


def test_cells_in_the_order_of_the_plan() -> None:
    plan: dict[str, Any] = {"methods": ["padim", {"name": "patchcore", "coreset": 0.5}], "seeds": [3, 1]}
    found = expand(manifest(), ("cloth", "bolt"), **plan)
    assert [cell.title for cell in found] == [
        f"parts/{category} {method} seed {seed}"
        for category in ("cloth", "bolt")
        for method in ("padim", "patchcore(coreset=0.5)")
        for seed in (3, 1)
    ]


def test_a_method_may_name_the_enhancers_that_it_is_compared_with() -> None:
    methods = [{"name": "padim", "enhancers": ["none"]}, {"name": "mffa", "enhancers": ["psg"]}, "patchcore"]
    found = expand(manifest(), enhancers=["none", "psg"], methods=methods)
    pairs = [(cell.names["enhancer"], cell.names["method"]) for cell in found]
    assert pairs == [("none", "padim"), ("none", "patchcore"), ("psg", "mffa"), ("psg", "patchcore")]
    assert [bool(cell.plain) for cell in found] == [False, False, False, True]


def test_rows_are_of_the_category_and_in_the_order_of_their_content() -> None:
    frame = manifest()
    frame["sha256"] = [f"{(7 * number) % 18:02d}" for number in range(18)]
    cell = expand(frame, ("cloth",))[0]
    assert set(cell.train["path"]) == {f"cloth/train/good/{n}.png" for n in range(3)}
    assert set(cell.test["path"]) == {f"cloth/test/{d}/{n}.png" for d in ("good", "dent") for n in range(3)}
    for rows in (cell.train, cell.test):
        assert list(rows["sha256"]) == sorted(rows["sha256"])


def test_names_are_the_columns_of_the_leaderboard() -> None:
    assert expand(manifest())[0].names == {
        "dataset": "parts",
        "category": "bolt",
        "protocol": "one-class",
        "enhancer": "none",
        "method": "patchcore",
        "protocol_label": "one-class",
        "enhancer_label": "none",
        "method_label": "patchcore(coreset=0.5)",
        "backbone": "resnet18",
        "weights": "random",
        "image": "64",
        "seed": 0,
    }
    assert expand(manifest(), image={"resize": 64, "crop": 48})[0].names["image"] == "64/48"


def test_layers_of_the_plan_replace_the_levels_of_the_method() -> None:
    assert expand(manifest())[0].levels == (2, 3)
    layers = {"name": "resnet18", "weights": "random", "layers": [1]}
    assert expand(manifest(), backbone=layers)[0].levels == ()


def test_a_cap_is_part_of_the_content() -> None:
    assert changed(expand(cap(manifest(), 2, None))[0]) == FIT
    assert changed(expand(cap(manifest(), None, 4))[0]) == MAPS
    assert changed(expand(cap(manifest(), 3, 6))[0]) == set()


def test_the_same_arm_twice_is_named() -> None:
    with pytest.raises(PlanError, match=r"patchcore\(coreset=0\.5\).*stands twice"):
        expand(manifest(), methods=[{"name": "patchcore", "coreset": 0.5}] * 2)


def test_a_plan_read_back_from_text_has_the_same_keys() -> None:
    plan = parse(BASE | {"methods": [{"name": "patchcore", "coreset": 0.5}, "padim"]})
    categories = [Category("parts", "bolt", Path("/data"), manifest())]
    again = Plan.model_validate_json(plan.model_dump_json())
    assert cells.expand(plan, categories) == cells.expand(again, categories)


def test_a_manifest_read_back_from_its_file_has_the_same_keys(tmp_path: Path) -> None:
    from adcore.datasets.manifest import read_manifest, write

    write(manifest(), tmp_path / "m.csv")
    assert changed(expand(read_manifest(tmp_path / "m.csv"))[0]) == set()
