"""One set of rows, every page: the lead sentence, the statistics, the table of enhancers and the printed numbers beside
ours agree on who is better, worse or undecided."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from adcore.core.plan import parse
from adcore.engine import cells, registry
from adcore.papers import beside
from adcore.papers.measured import Run
from adcore.report import enhancers, html, leaderboard, statistics
from adcore.results import effects
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.images import Sample, sample
from adcore.results.run import Results
from tests.report.conftest import a_row

ENHANCERS = ("none", "sbm", "sbm(epochs=0)")  # the last is the control
IMAGES = 16  # of a category
NAMES = """
datasets: {Mine: folder}
metrics: {I-AUROC: {column: i_auroc}}
systems: {PaDiM: {method: padim}}
enhancers: {none: {}, SBM: {enhancer: sbm}}
settings: {usual: {}}
"""
PRINTED = "paper,table,dataset,setting,method,enhancer,category,metric,value,unit,note,tolerance\n"


@dataclass(frozen=True)
class Board:
    """Rows of one host with three enhancers, and what is known of their images."""

    rows: list[dict[str, Any]]
    samples: Mapping[str, Sample]

    @property
    def contests(self) -> Contests:
        return Contests(frame(self.rows), lambda: self.samples)

    def mean(self, enhancer: str) -> float:
        """Over categories of the mean over seeds."""
        own = [row for row in self.rows if row["enhancer_label"] == enhancer]
        return float(pd.DataFrame(own).groupby("category")["i_auroc"].mean().mean())


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """Scores of drawn quality on drawn images; now and then without samples, or with a failed cell."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    categories, seeds = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    quality = {name: draw(st.sampled_from([0.3, 0.8, 0.85, 2.5])) for name in ENHANCERS}
    same = draw(st.booleans())  # the control and what it controls score alike
    labels = np.arange(IMAGES) % 2
    rows: list[Any] = []
    samples: dict[Any, Any] = {}
    for category in (f"c{i}" for i in range(categories)):
        signal = rng.normal(size=IMAGES)
        for enhancer in ENHANCERS:
            for seed in range(seeds):
                repeat = 0 if enhancer == "none" else seed  # none has no chance in it
                noise = np.random.default_rng([len(rows) * (not same), repeat]).normal(size=IMAGES)
                scores = signal + quality[enhancer] * labels + 0.3 * noise * (enhancer != "none")
                value = float(roc_auc_score(labels, scores))
                names = {"enhancer_label": enhancer, "enhancer": enhancer.split("(")[0]}
                rows.append(a_row(dataset="mine", category=category, seed=seed, i_auroc=value, i_ap=math.nan, **names))
                paths = [f"{i}.png" for i in range(IMAGES)]
                images = pd.DataFrame({"path": paths, "label": labels, "subset": "", "score": scores})
                samples[rows[-1]["key"]] = sample(images)
    if draw(st.integers(0, 4)) == 0:
        rows[draw(st.integers(0, len(rows) - 1))] |= {"status": "failed", "i_auroc": math.nan}
    return Board(rows, samples if draw(st.integers(0, 4)) else {})


def printed(board: Board, folder: Path) -> list[beside.Beside]:
    """What is said of SBM beside a paper that prints, of SBM, our mean without it."""
    folder.mkdir(exist_ok=True)
    (folder / "names.yaml").write_text(NAMES)
    row = f"a paper,Table 1,Mine,usual,PaDiM,SBM,overall,I-AUROC,{100 * board.mean('none'):.12f},%,,0.000001\n"
    (folder / "a-paper_table1.csv").write_text(PRINTED + row)
    spec = {"name": "mine", "kind": "folder", "root": str(folder)}
    plan = parse({"datasets": [spec], "methods": ["padim"], "enhancers": ["none", "sbm"]})
    dataset = registry.dataset("folder")(plan.datasets[0], folder)
    return beside.compare(Run("suite", plan, cells.contenders(plan), board.contests.table, {"mine": dataset}), folder)


def told(sentence: str, one: str, other: str) -> str:
    """Who is better, as a reader takes it from a sentence about two contenders."""
    if "may turn it" in sentence:
        return "undecided"
    names = re.escape(one), re.escape(other)
    if re.search(rf"(^|[ ;:]){names[0]} beats ({names[1]}|it)( |,|\.|$)", sentence):
        return "better"
    if re.search(rf"(^|[ ;:]){names[1]} beats ({names[0]}|it)( |,|\.|$)", sentence):
        return "worse"
    return "equal" if re.search(r" are equal|: equal in every category", sentence) else "undecided"


def of_table(sentence: str) -> str:
    """The same of a verdict in the table of enhancers, against none."""
    if "may turn it" in sentence:
        return "undecided"
    first = sentence.split(";")[0]
    words = {"beats none": "better", "is worse than none": "worse", "equal to none": "equal", "identical to": "equal"}
    return next((standing for word, standing in words.items() if word in first), "undecided")


def opposite(one: str, other: str) -> bool:
    return {one, other} == {"better", "worse"}


def compared(contests: Contests) -> list[effects.Effect]:
    return effects.compare(contests, {}, {"sbm(epochs=0)": "identity"})


NAME = {"none": "padim", "sbm": "padim · sbm", "sbm(epochs=0)": "padim · sbm(epochs=0)"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@settings(deadline=None, max_examples=15)
@given(boards())
def test_the_table_of_enhancers_says_what_the_statistics_say(board: Board) -> None:
    contests = board.contests
    rows = statistics.table(contests)
    own = rows[(rows["metric"] == "i_auroc") & rows["other"].notna() & rows["category"].isna()]
    verdicts = {frozenset([row["contender"], row["other"]]): row["verdict"] for _, row in own.iterrows()}
    for effect in compared(contests):
        pair = frozenset([NAME[effect.enhancer], NAME["none"]])
        sentence = verdicts.get(pair, "left out")
        expected = told(sentence, NAME[effect.enhancer], NAME["none"])
        assert of_table(enhancers.sentence(effect)) in (expected, "equal" if sentence == "left out" else expected)
        for against in effect.over_controls:
            sentence = verdicts.get(frozenset([NAME[effect.enhancer], NAME[against.other]]), "left out")
            assert against.standing == told(sentence, NAME[effect.enhancer], NAME[against.other])


@settings(deadline=None, max_examples=15)
@given(boards())
def test_the_lead_sentence_says_what_the_statistics_say_on_every_page(board: Board) -> None:
    contests = board.contests
    contest = contests.head("mine")
    lead = leaderboard.markdown(Results(contests)).split("\n\n")[3]
    if len(contest.entries) < 2:
        assert lead == "Nothing to compare: fewer than two complete lines."
        return
    first, second = contest.names[:2]
    _, about = statistics.markdown(contests).split("### image AUROC\n\n")
    _, *notes, heading, table = about.strip().split("\n\n")
    note = next(note for note in notes if not note.startswith("Left out"))
    assert told(lead, first, second) == told(note[0].lower() + note[1:], first, second)
    assert heading == f"{first} against the others:"
    behind = table.splitlines()[2].split(" | ")[-1].removesuffix(" |")
    short = "better" if behind.startswith("beaten") else "worse" if behind.startswith("ahead") else behind
    assert told(lead, first, second) == (short if short in ("better", "worse", "equal") else "undecided")


@settings(deadline=None, max_examples=12)
@given(board=boards())
def test_the_printed_column_never_says_the_opposite(folder: Path, board: Board) -> None:
    contests = board.contests
    contest = contests.head("mine")
    setting = {each.setting["enhancer_label"]: each.setting for each in contests.contenders["mine"]}
    pair = contest.between(setting["sbm"], setting["none"])
    if pair is None:
        return
    (one,) = printed(board, folder)
    assert one.difference == pytest.approx(100 * pair.difference, abs=1e-6)
    kind = one.judgement.kind
    assert not opposite(kind, pair.standing)
    assert (kind == "within tolerance") == (abs(pair.difference) < 1e-8)
    low, high = pair.on_seeds  # none is the same in all seeds, as a printed number is
    reached = low <= 1e-8 and high >= -1e-8
    assert (kind == "undecided") == (reached and abs(pair.difference) >= 1e-8)


def test_the_page_repeats_the_sentences_of_the_files(tmp_path: Path) -> None:
    values = {"none": 0.7, "sbm": 0.8, "sbm(epochs=0)": 0.71}
    rows = [
        a_row(category=f"c{i}", enhancer_label=name, enhancer=name.split("(")[0], i_auroc=value + i / 100)
        for i in range(8)
        for name, value in values.items()
    ]
    contests = Contests(frame(rows))
    table = compared(contests)
    html.write_report(tmp_path / "report.html", Results(contests, effects=table))
    page = (tmp_path / "report.html").read_text()
    lead = leaderboard.markdown(Results(contests)).split("\n\n")[3]
    assert lead in page
    assert lead.endswith("padim · sbm beats padim · sbm(epochs=0) on 8 of 8 categories, p = 0.02 after correction.")
    assert "padim · sbm beats padim · sbm(epochs=0) on 8 of 8 categories" in statistics.markdown(contests)
    assert "beats none and its control identity" in page
    assert "beats none and its control identity" in enhancers.markdown(table)
