"""A table of a paper from its suite to its page: a tiny CSV, a tiny plan, and the command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from adcore.core import shipped
from adcore.core.plan import PlanError
from adcore.papers import published
from adcore.papers.published import FOLDER
from adcore.results.frame import read
from flows.reproduce import reproduce

REPO = Path(__file__).parents[2]
HEADER = "paper,table,dataset,setting,method,enhancer,category,metric,value,unit,note\n"
ROW = "tiny,Table 1,Parts,one-class,{},none,{},{},{},%,{}\n"
PRINTED = [
    ("PaDiM", "bolt", "I-AUROC", "97.0", ""),
    ("PaDiM", "cloth", "I-AUROC", "99.0", ""),
    ("PaDiM", "overall", "I-AUROC", "98.5", "printed mean 98.5; mean of printed rows 98.0 (diff +0.5)"),
    ("PaDiM", "overall", "P-AUROC", "91.25", ""),
    ("CFA", "overall", "I-AUROC", "99.1", ""),
    ("Elsewhere", "overall", "I-AUROC", "99.9", ""),
]
NAMES = {
    "datasets": {"Parts": "folder"},
    "metrics": {"I-AUROC": {"column": "i_auroc"}, "P-AUROC": {"column": "p_auroc"}},
    "systems": {
        "PaDiM": {"method": "padim", "backbone": "resnet18", "image": "64"},
        "CFA": {"method": "cfa", "backbone": "resnet18"},
    },
    "absent": ["Elsewhere"],
    "enhancers": {"none": {}},
    "settings": {"one-class": {}},
    "small": {"folder": "folder"},
}


@pytest.fixture
def home(tmp_path: Path, own_parts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with published/ and suites/ of its own, for the command."""
    plan = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(own_parts)}],
        "methods": ["padim"],
        "device": "cpu",
    }
    for name in ("published", "suites"):
        (tmp_path / name).mkdir()
    (tmp_path / "published/tiny_table1.csv").write_text(HEADER + "".join(ROW.format(*row) for row in PRINTED))
    (tmp_path / "published/names.yaml").write_text(yaml.safe_dump(NAMES))
    for stem in ("tiny_table1", "tiny_table1-small"):
        (tmp_path / f"suites/{stem}.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setattr(shipped, "CHECKOUT", tmp_path)
    return tmp_path


def run(workspace: Path, profile: str = "full") -> dict[str, Any]:
    state = reproduce(table="tiny_table1", profile=profile, workspace=str(workspace), return_state=True)
    outcome: Any = state.result(raise_on_failure=False)
    assert isinstance(outcome, dict), outcome
    return outcome


def made(workspace: Path, name: str = "tiny_table1") -> pd.DataFrame:
    table = pd.read_csv(workspace / "results/tables" / f"{name}.csv", keep_default_na=False, na_values={"measured": ""})
    return table.set_index(["method", "category", "metric"])


def test_a_table_is_made_from_its_suite_and_resumed(home: Path, work: Path) -> None:
    assert run(work)["last_line"].splitlines()[-1] == "cells: 2 computed, 0 cached, 0 failed"
    table, board = made(work), read(work / "results/leaderboard.csv").set_index("category")
    for category in ("bolt", "cloth"):
        assert table.loc[("PaDiM", category, "I-AUROC"), "measured"] == pytest.approx(100 * board["i_auroc"][category])
    overall: Any = table.xs(("PaDiM", "overall", "P-AUROC"))
    assert overall["measured"] == pytest.approx(50 * board["p_auroc"].sum())
    assert float(overall["difference"]) == pytest.approx(overall["measured"] - 91.25)
    assert overall["verdict"] == "not comparable: random weights"
    elsewhere: Any = table.xs(("Elsewhere", "overall", "I-AUROC"))
    assert elsewhere[["measured", "verdict"]].isna().tolist() == [True, False]
    assert table.loc[("CFA", "overall", "I-AUROC"), "verdict"] == "not measured: no suite has this system"
    text = (work / "results/tables/tiny_table1.md").read_text()
    assert text.startswith("# tiny, Table 1\n") and "### tiny_table1: parts" in text
    before = (work / "results/tables/tiny_table1.html").read_text()
    assert run(work)["last_line"].splitlines()[-1] == "cells: 0 computed, 2 cached, 0 failed"
    assert (work / "results/tables/tiny_table1.html").read_text() == before


def test_the_small_profile_never_passes_for_the_papers(home: Path, work: Path) -> None:
    run(work, "small")
    table = made(work, "tiny_table1-small")
    assert not (work / "results/tables/tiny_table1.csv").exists()
    told = set(table["verdict"]) - {""}
    assert told and all(text.startswith(("not comparable: small profile", "not measured")) for text in told)
    assert "small profile, not the paper" in (work / "results/tables/tiny_table1-small.html").read_text()


def test_missing_data_leave_the_table_with_what_is_printed(home: Path, own_parts: Path, work: Path) -> None:
    own_parts.rename(own_parts.with_name("gone"))
    outcome = run(work)
    assert outcome["failed"] == 1
    assert made(work)["printed"].tolist() == [float(row[3]) for row in PRINTED]
    assert "not measured: dataset parts: the folder" in (work / "results/tables/tiny_table1.md").read_text()


def test_a_failed_category_is_told(home: Path, own_parts: Path, work: Path) -> None:
    image = own_parts / "bolt" / "train" / "good" / "000.png"
    image.write_bytes(image.read_bytes()[:200])
    run(work)
    text = (work / "results/tables/tiny_table1.md").read_text()
    assert "* tiny_table1: parts/bolt: bolt/train/good/000.png" in text
    assert made(work)["verdict"]["PaDiM", "overall", "I-AUROC"].startswith("not comparable: random weights; 1 of 2")


def test_the_leaderboard_has_what_is_printed(home: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adcore.papers import beside

    monkeypatch.setattr(beside.compare, "__defaults__", (home / "published",))
    run(work)
    text = (work / "results/leaderboard.md").read_text()
    table = text[text.index("### Beside the published numbers") :]
    assert "| tiny, Table 1 | not comparable: random weights |" in table
    page = (work / "results/report.html").read_text()
    assert "Beside the published numbers" in page and "Single categories" in page


def test_an_unknown_table_is_told_with_the_nearest(home: Path) -> None:
    with pytest.raises(PlanError, match=r"no table 'tiny_table2'.*did you mean 'tiny_table1'"):
        reproduce(table="tiny_table2", workspace=str(home))


def test_a_spelling_that_is_not_known_is_told_before_anything_runs(home: Path, work: Path) -> None:
    with (home / "published/tiny_table1.csv").open("a") as file:
        file.write(ROW.format("Padim", "overall", "I-AUROC", "97.0", ""))
    with pytest.raises(PlanError, match="'Padim'; add it to `systems`"):
        reproduce(table="tiny_table1", workspace=str(work))
    assert not (work / "results").exists()


def test_a_suite_that_is_not_there_is_told(home: Path, work: Path) -> None:
    (home / "suites/tiny_table1-small.yaml").unlink()
    with pytest.raises(PlanError, match=r"no suite .*tiny_table1-small.yaml; write it"):
        reproduce(table="tiny_table1", profile="small", workspace=str(work))


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "flows.reproduce", *(str(argument) for argument in arguments)]
    return subprocess.run(line, cwd=REPO, capture_output=True, text=True, timeout=280, check=False)


def test_list_prints_one_table_a_line_and_what_of_it_can_be_measured() -> None:
    done = call("list")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == published.stems(FOLDER)
    numbers = [[int(text.replace(",", "")) for text in re.findall(r" ([\d,]+) ", line)] for line in (*lines, last)]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    absent = sum(published.table(stem)["method"].isin(published.names().absent).sum() for stem in published.stems())
    assert numbers[-1][0] == 1682 and 1682 - absent - 20 < numbers[-1][1] <= 1682 - absent


def test_a_dry_run_lists_what_is_missing(tmp_path: Path) -> None:
    done = call("tfa-net_table4", "--workspace", tmp_path / "work", "--dry-run")
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "suite: tfa-net_table4" and second.startswith("missing: the files of mvtec_ad")
    sizes = call("agpnet_table9", "--workspace", tmp_path / "work", "--dry-run")
    assert (
        sizes.stdout == "sizes of agpnet_table1, agpnet_table1-uniad, agpnet_table1-simplenet: counted without data\n"
    )
    unknown = call("nothing", "--workspace", tmp_path / "work")
    assert unknown.returncode == 2 and len(unknown.stderr.splitlines()) == 1
