"""Results of runs: which cells make one, and what its key depends on."""

import json
import math

import pytest

from adcore.core.words import TRAINING
from adcore.results.runs import CellResult, run_results, weights_mark


def cells(tmp_path, *rows):
    return [CellResult(row, tmp_path) for row in rows]


def test_a_run_holds_the_categories_of_one_setting_and_seed(tmp_path, row):
    rows = [row(category=c, seed=s, method_label=m) for m in ("padim", "cfa") for s in (0, 1) for c in ("b", "a")]
    runs = run_results(cells(tmp_path, *rows))
    assert [(run.method, run.seed) for run in runs] == [("padim", 0), ("padim", 1), ("cfa", 0), ("cfa", 1)]
    assert all([cell.row["category"] for cell in run.cells] == ["a", "b"] for run in runs)


def test_run_key_ignores_order_and_follows_setting_and_cells(tmp_path, row):
    a, b = row(category="a"), row(category="b")

    def key(*rows):
        (run,) = run_results(cells(tmp_path, *rows))
        return run.run_key

    assert key(a, b) == key(b, a)
    others = [key(a), key(a, b | {"key": "new"}), key(*(x | {"method_label": "cfa"} for x in (a, b)))]
    assert len({key(a, b), *others}) == 4


def test_run_key_follows_the_twins_and_is_the_old_one_where_there_are_none(tmp_path, row):
    def key(**changes):
        (run,) = run_results(cells(tmp_path, row(**changes)))
        return run.run_key

    assert key(i_auroc_untwinned=math.nan) == key()
    assert len({key(), key(i_auroc_untwinned=0.5), key(i_auroc_untwinned=0.6)}) == 3


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"method_label": "patchcore(coreset=0.01)"}, "elpv · patchcore(coreset=0.01)"),
        ({"enhancer_label": "sbm+pfam", "seed": 2}, "elpv · padim · sbm+pfam · seed 2"),
        ({"weights": "random", "protocol_label": "few-shot(k=4)"}, "elpv · padim (random weights) · few-shot(k=4)"),
    ],
)
def test_names_tell_what_is_not_plain(tmp_path, row, changes, name):
    assert run_results(cells(tmp_path, row(**changes)))[0].name == name


def test_only_weights_without_meaning_are_marked():
    assert [weights_mark(w) for w in ("random", "stand-in", "pretrained", "wrn50.pth@0a1b2c3d")] == [
        "(random weights)",
        "(stand-in weights)",
        "",
        "",
    ]


def test_curves_come_with_the_maps_and_are_none_without_them(tmp_path, row):
    for name, curves in (("trained", {"loss": [2.0, 1.5], "radius": [0.5]}), ("plain", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / TRAINING).write_text(json.dumps(curves))
    folders = [tmp_path / "trained", tmp_path / "plain", tmp_path / "none", None]
    four = [CellResult(row(category=name), tmp_path, maps=maps) for name, maps in zip("abcd", folders, strict=True)]
    assert [cell.fit_curves for cell in four] == [{"loss": [2.0, 1.5], "radius": [0.5]}, {}, {}, {}]
    (run,) = run_results(four)
    name = four[0].row["method"]
    assert list(run.fit_curves.items()) == [(f"{name}.loss", {"a": [2.0, 1.5]}), (f"{name}.radius", {"a": [0.5]})]
