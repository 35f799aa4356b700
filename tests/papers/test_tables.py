"""A printed table beside measured values: averages by hand, verdicts in words, the shape of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adcore.core.plan import parse
from adcore.engine import cells, registry
from adcore.papers import beside, published, tables
from adcore.papers.measured import Found, Lookup, Run
from adcore.papers.published import Ours, Table
from adcore.papers.targets import paper
from adcore.report import table_pages
from adcore.report.leaderboard import markdown
from adcore.report.verdicts import printed
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.run import Results

Make = Callable[..., dict[str, Any]]
PAPER = {"backbone": "wide_resnet50_2.tv_in1k", "image": "256", "dataset": "mvtec_ad"}
CONTENT: dict[str, Any] = {
    "image": {"resize": 256},
    "backbone": {"name": "wide_resnet50_2.tv_in1k"},
    "datasets": ["mvtec_ad"],
    "methods": ["padim"],
}
NAMES = published.names()
MVTEC = registry.dataset("mvtec_ad")


def a_run(rows: list[dict[str, Any]], **changes: Any) -> Run:
    plan = parse(CONTENT | changes)
    datasets = {spec.name: registry.dataset(spec.of_kind)(spec, Path("data")) for spec in plan.datasets}
    return Run("suite", plan, cells.contenders(plan), frame(rows), datasets)


def all_of(row: Make, seeds: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """A row a category and seed; textures have 0.9, objects 0.8, the second seed 0.02 more."""
    return [
        row(**PAPER, category=name, seed=seed, i_auroc=0.8 + 0.1 * (name in MVTEC.textures) + 0.02 * seed, **changes)
        for name in MVTEC.facts
        for seed in range(seeds)
    ]


def made(run: Run, stem: str = "sbm-pfam_table1", small: bool = False) -> pd.DataFrame:
    related = pd.concat([published.table(other) for other in paper(stem, published.stems())])
    lookup = Lookup([run], NAMES.small if small else None)
    return worded(tables.make(stem, published.table(stem), NAMES, lookup, related))


def worded(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(verdict=rows["judgement"].map(printed))


def told_of(*given: Any) -> str:
    return printed(tables.judge(*given))


def cell(rows: pd.DataFrame, category: str, metric: str = "I-AUROC", **wanted: str) -> pd.Series:
    wanted = {"method": "PaDiM", "enhancer": "none", "category": category, "metric": metric, **wanted}
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    (found,) = (row for _, row in rows.iterrows())
    return found


def test_averages_are_those_of_hand_computation(row: Make) -> None:
    rows = made(a_run(all_of(row, seeds=2), seeds=[0, 1]))
    assert cell(rows, "avg_texture")["measured"] == pytest.approx(91)
    assert cell(rows, "avg_object")["measured"] == pytest.approx(81)
    overall = cell(rows, "overall")
    assert overall["measured"] == pytest.approx((5 * 91 + 10 * 81) / 15)
    assert overall["difference"] == pytest.approx(overall["measured"] - 95)
    assert (overall["std"], overall["seeds"]) == (pytest.approx(2 / math.sqrt(2)), 2)
    assert cell(rows, "carpet")["measured"] == pytest.approx(91)


def test_systems_that_are_not_there_have_their_printed_value_alone(row: Make) -> None:
    rows = made(a_run(all_of(row)))
    absent = cell(rows, "carpet", method="ViTALnet", metric="P-AUROC")
    assert (absent["printed"], absent["verdict"]) == ("98.9", "") and math.isnan(absent["measured"])
    assert cell(rows, "carpet", method="CFA")["verdict"] == "not measured: no suite has this system"
    assert cell(rows, "ostrich")["verdict"] == "not measured: no suite has mtl_ad"
    assert cell(rows, "carpet", metric="P-AUROC")["verdict"] == "not measured: mvtec_ad has no p_auroc"


def test_a_missing_category_makes_an_average_not_comparable(row: Make) -> None:
    kept = [one for one in all_of(row) if one["category"] != "tile"]
    rows = made(a_run(kept))
    assert cell(rows, "avg_texture")["measured"] == pytest.approx(90)
    assert cell(rows, "avg_texture")["verdict"] == "not comparable: 4 of 5 categories"
    assert cell(rows, "avg_object")["verdict"] == "worse"
    assert cell(rows, "tile")["verdict"] == "not measured: suite has no tile of mvtec_ad"


@pytest.mark.parametrize(
    ("weights", "changes", "told"),
    [
        ("random", {"backbone": {"name": "wide_resnet50_2.tv_in1k", "weights": "random"}}, "random weights"),
        ("stand-in, pretrained", {}, "stand-in weights"),
        ("pretrained", {"image": {"resize": 224}}, "image 224 instead of 256"),
        ("pretrained", {"methods": [{"name": "padim", "n_features": 20}]}, "n_features 20 instead of None"),
        ("pretrained", {"datasets": [{"name": "mvtec_ad", "max_train": 9}]}, "at most 9 training images"),
    ],
)
def test_what_stands_against_a_comparison_is_named(weights: str, changes: Any, told: str, row: Make) -> None:
    label = "padim(n_features=20)" if "methods" in changes else "padim"
    rows = made(a_run(all_of(row, weights=weights, method_label=label), **changes))
    assert cell(rows, "overall")["verdict"] == f"not comparable: {told}"


def test_a_number_of_the_best_epoch_on_test_is_not_held_against_the_last(row: Make) -> None:
    crop = {"resize": 256, "crop": 224}
    last = made(a_run(all_of(row, method_label="cfa"), methods=["cfa"], image=crop))
    assert cell(last, "overall", method="CFA")["verdict"] == "not measured: no suite has this system"
    label, leaky = "cfa(selection=best_test)", {"name": "cfa", "selection": "best_test"}
    best = made(a_run(all_of(row, method_label=label), methods=[leaky], image=crop))
    assert cell(best, "overall", method="CFA")["verdict"] == "worse"


def test_another_backbone_is_not_taken_for_the_papers(row: Make) -> None:
    rows = made(a_run(all_of(row), backbone={"name": "resnet18"}))
    assert cell(rows, "overall")["verdict"] == "not measured: no suite has this system"


@pytest.mark.parametrize(
    ("measured", "printed", "tolerance", "lower", "told"),
    [
        (95.5, 95.0, 0.5, False, "within tolerance"),
        (94.5, 95.0, 0.5, False, "within tolerance"),
        (95.6, 95.0, 0.5, False, "better"),
        (94.4, 95.0, 0.5, False, "worse"),
        (94.4, 95.0, 0.5, True, "better"),
        (94.4, 95.0, 1.0, False, "within tolerance"),
    ],
)
def test_verdicts(measured: float, printed: float, tolerance: float, lower: bool, told: str) -> None:
    given = {"value": printed, "tolerance": tolerance, "note": ""}
    assert told_of(given, Found(measured), lower) == told


def test_a_misprint_that_matters_is_named() -> None:
    note = "printed average 94.55; mean of printed rows 94.630 (diff -0.080)"
    given = {"value": 94.55, "tolerance": 0.5, "note": note}
    assert told_of(given, Found(94.6)) == "within tolerance"
    assert told_of(given, Found(95.1)) == f"not comparable: misprint: {note}"
    assert told_of(given, Found(96.0)) == "better"
    suspect = {**given, "note": "suspect cell: 99.5 would restore the printed mean"}
    assert told_of(suspect, Found(94.6)).startswith("not comparable: misprint: suspect cell")


def test_a_margin_that_the_papers_own_table_contradicts_is_a_misprint() -> None:
    given = {"value": 1.5, "tolerance": 0.5, "note": "Table 3 gives 92.3-86.8=5.5"}
    assert told_of(given, Found(5.5)).startswith("not comparable: misprint: Table 3")
    assert told_of(given, Found(1.5)).startswith("not comparable: misprint")
    assert told_of(given, Found(7.0)) == "better" and told_of(given, Found(0.0)) == "worse"


def test_the_spread_is_over_seeds_that_have_every_category(row: Make) -> None:
    kept = [one for one in all_of(row, seeds=3) if (one["category"], one["seed"]) != ("tile", 2)]
    textures = cell(made(a_run(kept, seeds=[0, 1, 2])), "avg_texture")
    assert textures["std"] == pytest.approx(2 / math.sqrt(2)) and textures["seeds"] == 3
    assert textures["measured"] == pytest.approx((4 * 92 + 91) / 5)


def test_a_joint_model_of_some_classes_is_not_that_of_all(row: Make) -> None:
    joint = {"protocols": ["multi-class"], "methods": ["agpnet"], "backbone": {"name": "vit_small_patch16_224.dino"}}
    joint["image"] = {"resize": 224}
    names = {"protocol_label": "multi-class", "method_label": "agpnet"}
    some = [row(dataset="mvtec_ad", category=name, i_auroc=0.99, **names) for name in ("bottle", "carpet")]
    spec = {"name": "mvtec_ad", "categories": ["bottle", "carpet"]}
    rows = made(a_run(some, **joint, datasets=[spec]), "agpnet_table1")
    bottle = cell(rows, "bottle", method="AGPNet")
    assert bottle["verdict"] == "not comparable: a joint model with 2 of 15 categories"
    every = [row(dataset="mvtec_ad", category=name, i_auroc=0.99, **names) for name in MVTEC.facts]
    assert cell(made(a_run(every, **joint), "agpnet_table1"), "bottle", method="AGPNet")["verdict"] == "worse"


def test_logical_and_structural_anomalies_have_columns_of_their_own(row: Make) -> None:
    metrics = {"i_auroc": 0.8, "i_auroc_logical": 0.7, "i_auroc_structural": 0.9}
    metrics |= {"spro": 0.6, "spro_logical": 0.5, "spro_structural": 0.7}
    facts = registry.dataset("mvtec_loco").facts
    rows = [row(dataset="mvtec_loco", category=name, image="256", method_label="tfa_net", **metrics) for name in facts]
    changes = {"datasets": ["mvtec_loco"], "methods": ["tfa_net"], "image": {"resize": 256}}
    found = made(a_run(rows, **changes), "tfa-net_table2")
    measured = found[found["method"] == "TFA-Net"].set_index(["metric", "category"])["measured"]
    assert measured["I-AUROC"].to_dict() == pytest.approx({"logical": 70, "structural": 90, "average": 80})
    assert measured["AU-sPRO@0.05"].to_dict() == pytest.approx({"logical": 50, "structural": 70, "average": 60})


def test_few_shot_draws_are_repeats_and_a_shot_is_a_system_of_its_own(row: Make) -> None:
    protocols = [{"name": "few-shot", "k": k} for k in (1, 2)]
    rows = [
        row(**PAPER, category=name, protocol_label=f"few-shot(k={k})", seed=draw, i_auroc=0.7 + 0.1 * k + 0.01 * draw)
        for name in MVTEC.facts
        for k in (1, 2)
        for draw in range(3)
    ]
    found = made(a_run(rows, protocols=protocols), "agpnet_table10")
    told = [cell(found, "overall", setting=f"{k}-shot") for k in (1, 2, 4)]
    assert [one["measured"] for one in told[:2]] == pytest.approx([81, 91])
    assert told[0]["seeds"] == 3 and told[0]["std"] == pytest.approx(1)
    assert told[2]["verdict"] == "not measured: no suite has this system"


def test_pixels_at_another_size_are_another_number(row: Make) -> None:
    rows = [{**one, "p_auroc": 0.9, "aupro": 0.9} for one in all_of(row)]
    setting = {"evaluate_at": "original", "image": {"resize": 256, "crop": 224}}
    run = a_run(rows, **setting)
    found = made(run, "agpnet_table2")
    assert cell(found, "overall", method="PatchCore")["verdict"] == "not measured: no suite has this system"
    patchcore = [{**one, "method_label": "patchcore"} for one in rows]
    found = made(a_run(patchcore, **setting, methods=["patchcore"]), "agpnet_table2")
    told = {m: cell(found, "overall", m, method="PatchCore")["verdict"] for m in ("I-AUROC", "P-AUROC", "PRO")}
    assert told["P-AUROC"] == "not comparable: pixels of the original images, not of the network's input"
    assert told["I-AUROC"] == "worse"
    assert told["PRO"].startswith("not comparable: printed beside ADer's columns, whose PRO takes 200 thresholds")


def test_reasons_come_before_numbers() -> None:
    given = {"value": 95.0, "tolerance": 0.5, "note": ""}
    assert told_of(given, Found(95.0, reasons=("random weights", "a"))) == "not comparable: random weights; a"
    assert told_of(given, Found(reasons=("gone",))) == "not measured: gone"


def test_a_difference_is_that_of_two_arms(row: Make) -> None:
    plain = all_of(row)
    better = [{**one, "enhancer_label": "paper", "i_auroc": one["i_auroc"] + 0.01} for one in plain]
    rows = made(a_run(plain + better, enhancers=["none", "paper"]), "sbm-pfam_text")
    found = cell(rows, "avg_texture", "delta_P-AUROC", enhancer="SBM+PFAM")
    assert found["verdict"].startswith("not measured")
    frames = [{**one, "p_auroc": one["i_auroc"]} for one in plain + better]
    rows = made(a_run(frames, enhancers=["none", "paper"]), "sbm-pfam_text")
    found = cell(rows, "avg_texture", "delta_P-AUROC", enhancer="SBM+PFAM")
    assert found["measured"] == pytest.approx(1.0)
    assert (found["difference"], found["verdict"]) == (pytest.approx(1.2), "better")


def test_a_range_is_over_the_runs_that_are_there(row: Make) -> None:
    methods = ["tfa_net", *({"name": "tfa_net", "template": k} for k in range(1, 10))]
    labels = ["tfa_net", *(f"tfa_net(template={k})" for k in range(1, 10))]
    base = {**PAPER, "image": "256", "category": "screw"}
    rows = [row(**base, method_label=label, i_auroc=0.9 + 0.001 * k) for k, label in enumerate(labels)]
    run = a_run(rows, methods=methods, image={"resize": 256})
    found = cell(made(run, "tfa-net_text"), "screw", "range_I-AUROC", method="TFA-Net")
    assert found["measured"] == pytest.approx(0.9) and found["verdict"] == "within tolerance"
    partial = a_run(rows[:3], methods=methods, image={"resize": 256})
    found = cell(made(partial, "tfa-net_text"), "screw", "range_I-AUROC", method="TFA-Net")
    assert found["measured"] == pytest.approx(0.2) and found["verdict"] == "not comparable: 3 of 10 runs"


def test_latency_and_sizes_come_from_their_own_files(row: Make) -> None:
    scopes = {"total": {"median_ms": 44.0}}
    timing = {
        "method_label": "padim",
        "enhancer_label": "none",
        "hardware": "EPYC, 2 cores",
        "threads": 2,
        "busy": False,
    }
    run = a_run(all_of(row), image={"resize": 256, "crop": 224})
    run = Run(run.name, run.plan, run.contenders, run.table, run.datasets, [{**timing, "latency": {"scopes": scopes}}])
    found = cell(made(run, "sbm-pfam_table2"), "all", "time_ms")
    assert found["measured"] == 44.0
    assert found["verdict"] == "not comparable: timed on EPYC, 2 cores with 2 threads, printed for another machine"


def test_a_latency_of_a_busy_machine_stands_beside_no_printed_one(row: Make) -> None:
    timing = {
        "method_label": "padim",
        "enhancer_label": "none",
        "hardware": "EPYC, 2 cores",
        "threads": 2,
        "busy": True,
    }
    run = a_run(all_of(row), image={"resize": 256, "crop": 224})
    timings = [{**timing, "latency": {"scopes": {"total": {"median_ms": 44.0}}}}]
    run = Run(run.name, run.plan, run.contenders, run.table, run.datasets, timings)
    assert math.isnan(cell(made(run, "sbm-pfam_table2"), "all", "time_ms")["measured"])
    sizes: dict[str, Any] = {
        "method_label": "agpnet",
        "backbone": "vit_small_patch16_224.dino",
        "image": "224",
        "device": "cpu",
    }
    sizes |= {
        "learnable_params": 4_415_000,
        "macs_as_published": 5.7e9,
        "images_per_s_b32": 9.0,
        "images_per_s_b1": 1.0,
    }
    table = published.table("agpnet_table9")
    rows = worded(tables.make("agpnet_table9", table, NAMES, Lookup([], sizes=[sizes]), table))
    own = rows[rows["method"] == "AGPNet"].set_index("metric")
    assert own["measured"].tolist() == pytest.approx([4.415, 5.7, 9.0])
    assert own.loc["learnable_params", "verdict"] == "within tolerance"
    assert own.loc["FLOPs", "verdict"] == "worse"  # by more than half a percent; fewer are better
    assert own["verdict"]["FPS"].startswith("not comparable: timed on cpu")
    other = worded(tables.make("agpnet_table9", table, NAMES, Lookup([], sizes=[{**sizes, "image": "256"}]), table))
    own = other[other["method"] == "AGPNet"].set_index("metric")
    assert own.loc["learnable_params", "verdict"] == "not comparable: image 256 instead of 224"


def test_a_count_that_was_printed_by_other_rules_is_not_compared() -> None:
    table = published.table("agpnet_table9")
    sizes = {
        "method_label": "uniad",
        "backbone": "tf_efficientnet_b4.aa_in1k",
        "image": "224",
        "learnable_params": 7_717_392,
        "macs_as_published": 2.62e9,
    }
    rows = worded(tables.make("agpnet_table9", table, NAMES, Lookup([], sizes=[sizes]), table))
    own = rows[rows["method"] == "UniAD"].set_index("metric")
    assert own["measured"]["learnable_params"] == pytest.approx(7.717392)
    told = own["verdict"]
    assert told["learnable_params"].startswith("not comparable: printed are the weight matrices alone")
    assert told["FLOPs"].startswith("not comparable: printed are, as far as can be told, multiplications")


def test_sizes_that_nobody_has_counted_are_told() -> None:
    table = published.table("tfa-net_table3")
    backbone = "wide_resnet101_2.tv_in1k"
    sizes = {
        "method_label": "tfa_net(l2_channels=True)",
        "backbone": backbone,
        "image": "256",
        "total_params": 231.58e6,
    }
    rows = worded(tables.make("tfa-net_table3", table, NAMES, Lookup([], sizes=[sizes]), table))
    told = rows.set_index(["method", "metric"])["verdict"]
    assert told["TFA-Net(WideResnet101)", "Params"] == "within tolerance"  # an option of its own
    assert told["TFA-Net(VGG19)", "Params"] == "not measured: no suite has tfa_net on vgg19.tv_in1k"
    rows = worded(tables.make("tfa-net_table3", table, NAMES, Lookup([], NAMES.small, None), table))
    told = rows.set_index(["method", "metric"])["verdict"]
    assert told["TFA-Net(VGG19)", "Params"].startswith("not measured: sizes are of the paper's own network")


def small_rows(row: Make) -> list[dict[str, Any]]:
    base = {"dataset": "generated", "backbone": "tf_efficientnet_lite0", "image": "128"}
    return [row(**base, category=name, i_auroc=0.9) for name in ("brick", "pill")]


SMALL = {"datasets": ["generated"], "backbone": {"name": "tf_efficientnet_lite0"}, "image": {"resize": 128}}


def test_leather_with_a_stamp_stands_in_for_mtl_ad(row: Make) -> None:
    leather = row(**{**small_rows(row)[0], "category": "leather", "i_auroc": 0.8})
    rows = made(a_run([*small_rows(row), leather], **SMALL), small=True)
    assert cell(rows, "avg_mtl")["measured"] == pytest.approx(80)
    assert cell(rows, "avg_mtl")["verdict"].startswith(
        "not comparable: small profile: 1 category of generated instead of"
    )
    assert cell(rows, "overall")["measured"] == pytest.approx(260 / 3)


def test_the_small_profile_has_its_own_classes_and_no_verdict(row: Make) -> None:
    rows = made(a_run(small_rows(row), **SMALL), small=True)
    assert "carpet" not in set(rows["category"])
    brick = cell(rows, "brick", dataset="generated")
    assert (brick["printed"], brick["measured"], brick["verdict"]) == ("", pytest.approx(90), "")
    overall = cell(rows, "overall")
    assert overall["measured"] == pytest.approx(90) and math.isnan(overall["difference"])
    assert overall["verdict"].startswith(
        "not comparable: small profile: 2 categories of generated instead of MVTec AD; backbone tf_"
    )
    told = {text.split(":")[0] for text in rows["verdict"] if text}
    assert told == {"not comparable", "not measured"}


def test_a_margin_over_a_printed_number_means_nothing_on_other_data(row: Make) -> None:
    base = {"dataset": "generated", "backbone": "tf_efficientnet_lite0", "image": "128"}
    base |= {"method_label": "agpnet", "protocol_label": "multi-class"}
    changes = {**SMALL, "methods": ["agpnet"], "protocols": ["multi-class"]}
    run = a_run([row(**base, category=name, i_auroc=0.9) for name in ("brick", "pill")], **changes)
    rows = made(run, "agpnet_text", small=True)
    assert rows["measured"].isna().all()
    assert set(rows["verdict"]) == {"not measured: on other data a margin over a printed value means nothing"}


def test_a_page_names_units_and_whose_a_note_is(row: Make) -> None:
    table = published.table("agpnet_table9")
    rows = tables.make("agpnet_table9", table, NAMES, Lookup([]), table)
    sizes = table_pages.page(tables.Made("agpnet_table9", "full", rows), NAMES.table("agpnet_table9"))
    assert sizes["values"].header[1] == "learnable_params (M) printed" and "percent" not in sizes["lead"]
    page = table_pages.page(tables.Made("sbm-pfam_table1", "full", made(a_run(all_of(row)))), Table())
    assert "In a cell: I-AUROC / P-AUROC. In percent. Best" in page["lead"]
    (note,) = (line for line in page["notes"] if "94.55" in line)
    assert note.startswith("PaDiM · SBM+PFAM, avg_object I-AUROC: printed average 94.55")


def test_the_page_has_the_papers_shape(row: Make, tmp_path: Path) -> None:
    full = tables.Made("sbm-pfam_table1", "full", made(a_run(all_of(row))), ("suite: mtl_ad is not in place",))
    paths = table_pages.write(tmp_path, full, NAMES.table("sbm-pfam_table1"))
    assert [path.name for path in paths] == [f"sbm-pfam_table1.{kind}" for kind in ("csv", "md", "html")]
    text = paths[1].read_text()
    header, rule, first = text.splitlines()[4:7]
    assert header.startswith(
        "| dataset | class | DRAEM · SSPCAB | ViTALnet | GLAD printed | GLAD here | PyramidFlow "
        "| PaDiM printed | PaDiM here |"
    )
    assert first.startswith(
        "| MVTec AD | carpet | 98.2 / 95.0 | – / 98.9 | 99.0 / 97.8 | – / – | – / 97.4 | 99.5 / **99.1** | 90.0 / – |"
    )
    assert "| MVTec AD | mean of textures |" in text and "−" not in rule
    assert "* suite: mtl_ad is not in place" in text
    assert "printed average 97.28; mean of printed rows 97.320" in text  # a note on a printed cell
    assert "* CFA: of the epoch that was best on the test images\n" in text
    assert "| -8.08 worse / not measured [2] |" in text  # textures: 90.0 beside 98.08
    found = pd.read_csv(paths[0], keep_default_na=False)
    assert len(found) == 360 and set(found["profile"]) == {"full"}
    assert "<b>99.1</b>" in paths[2].read_text()


def test_a_small_page_says_so_first(row: Make, tmp_path: Path) -> None:
    small = tables.Made("sbm-pfam_table1", "small", made(a_run(small_rows(row), **SMALL), small=True))
    paths = table_pages.write(tmp_path, small, Table())
    assert {path.stem for path in paths} == {"sbm-pfam_table1-small"}
    lines = paths[1].read_text().splitlines()
    assert lines[0].endswith("small profile, not the paper's data")
    assert lines[2].startswith("**Not the paper's numbers.**")


def test_axes_that_do_not_tell_numbers_apart_are_an_error(row: Make, tmp_path: Path) -> None:
    full = tables.Made("sbm-pfam_table1", "full", made(a_run(all_of(row))))
    with pytest.raises(published.PublishedError, match="a cell has several numbers"):
        table_pages.write(tmp_path, full, Table(rows=("category",), columns=("method",)))


def test_the_best_of_a_shot_is_not_that_of_another() -> None:
    table = published.table("agpnet_table10")
    rows = tables.make("agpnet_table10", table, NAMES, Lookup([]), table)
    bold = rows.loc[sorted(tables.best(rows, "value", ["setting"]))]
    assert bold[bold["metric"] == "I-AUROC"]["printed"].tolist() == ["94.6", "95.7", "96.6"]


def test_a_difference_is_never_the_best() -> None:
    table = published.table("sbm-pfam_text")
    related = pd.concat([table, published.table("sbm-pfam_table1")])
    rows = tables.make("sbm-pfam_text", table, NAMES, Lookup([]), related)
    assert not tables.best(rows, "value")


def test_what_replaces_what(row: Make) -> None:
    first = Ours(method="padim", options={"a": 1, "b": 2}, image="256")
    assert first.then(Ours(options={"b": 3}, image="224")) == Ours(
        method="padim", options={"a": 1, "b": 3}, image="224"
    )


def test_the_leaderboard_shows_what_is_printed_of_its_cells(row: Make) -> None:
    rows = all_of(row)
    found = beside.compare(a_run(rows))
    overall = [one for one in found if one.category == "overall" and one.metric == "i_auroc"]
    (sbm,) = (one for one in overall if one.source == "sbm-pfam, Table 1")
    assert (sbm.printed, sbm.difference, printed(sbm.judgement)) == ("95", pytest.approx(250 / 3 - 95), "worse")
    assert {one.dataset for one in found} == {"mvtec_ad"} and not [one for one in found if "Table 10" in one.source]
    text = markdown(Results(Contests(frame(rows))), found)
    table = text[text.index("### Beside the published numbers") :]
    assert "| padim | overall | image AUROC | 83.3 | 95 | -11.7 | sbm-pfam, Table 1 | worse |" in table
    assert "carpet" not in table  # an average stands for its classes
    one = a_run([one for one in rows if one["category"] == "carpet"])
    assert "| padim | carpet |" in markdown(Results(Contests(one.table)), beside.compare(one))


def test_a_leaderboard_of_other_data_has_nothing_printed(row: Make, tmp_path: Path) -> None:
    run = a_run(small_rows(row), **SMALL)
    assert beside.compare(run) == []
    assert beside.compare(a_run(all_of(row)), tmp_path / "nowhere") == []
    assert "published" not in markdown(Results(Contests(run.table)))
