"""A watched folder: one result an image, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adcore.core.plan import PlanError
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.engine.enhancement import image_set
from adcore.line import prediction, watch
from adcore.line.scorer import Scorer
from adcore.line.watch import Watch


@pytest.fixture(scope="module")
def scorer(done: Bench, cells: dict[str, Cell]) -> Scorer:
    return Scorer(done, cells["padim"])


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was not changed between two looks has settled."""
    monkeypatch.setattr(watch, "SETTLED", -1.0)


@pytest.fixture
def line(scorer: Scorer, tmp_path: Path) -> Path:
    """A folder with the cell's test images."""
    (tmp_path / "in").mkdir()
    for place, path in enumerate(image_set(scorer.cell, "test").paths):
        shutil.copy(path, tmp_path / "in" / f"{place}.png")
    return tmp_path


@pytest.fixture
def watching(scorer: Scorer, line: Path) -> Iterator[Watch]:
    made = Watch(scorer, line / "in", line / "out")
    with made.alone():
        yield made


def rows(line: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (line / "out" / "rows").glob("*.json")]


def test_nothing_is_scored_at_first_sight(watching: Watch) -> None:
    assert watching.step() == 0


def test_every_image_has_a_result_once_it_has_settled(line: Path, watching: Watch) -> None:
    watching.step()
    assert watching.step() == 6
    assert sorted(Path(each["prediction"]["path"]).name for each in rows(line)) == [f"{n}.png" for n in range(6)]


def test_scores_are_the_benchmarks(done: Bench, scorer: Scorer, line: Path, watching: Watch) -> None:
    watching.step()
    watching.step()
    found = {Path(each["prediction"]["path"]).stem: each["prediction"]["score"] for each in rows(line)}
    expected = np.load(done.store.path("maps", scorer.cell.maps_key) / "scores.npy")
    np.testing.assert_allclose([found[str(n)] for n in range(6)], expected, rtol=1e-4)


def test_a_file_that_is_still_written_to_is_left(line: Path, watching: Watch) -> None:
    watching.step()
    with (line / "in" / "0.png").open("ab") as file:
        file.write(b"more")
    assert watching.step() == 5


def test_a_restart_goes_on(scorer: Scorer, line: Path) -> None:
    for _ in range(2):
        again = Watch(scorer, line / "in", line / "out")
        with again.alone():
            again.step()
            again.step()
    assert len(rows(line)) == 6 and len(again.results) == 6


def test_what_was_cut_off_is_made_again(scorer: Scorer, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adcore.core.disk import write_file

    def killed(path: Path, content: bytes) -> None:
        if path.parent.name == "rows" and len(rows(line)) == 3:
            raise KeyboardInterrupt
        write_file(path, content)

    first = Watch(scorer, line / "in", line / "out")
    with monkeypatch.context() as cut, first.alone(), pytest.raises(KeyboardInterrupt):
        cut.setattr(watch, "write_file", killed)
        first.step()
        first.step()
    second = Watch(scorer, line / "in", line / "out")
    with second.alone():
        second.step()
        assert second.step() == 3
    assert len(rows(line)) == 6 and len(list((line / "out" / "overlays").iterdir())) == 6


def test_a_touched_file_has_one_result(line: Path, watching: Watch) -> None:
    watching.step()
    watching.step()
    os.utime(line / "in" / "0.png")
    watching.step()
    watching.step()
    assert len(rows(line)) == 6


def test_another_image_of_the_same_name_has_a_result_of_its_own(line: Path, watching: Watch) -> None:
    watching.step()
    watching.step()
    shutil.copy(line / "in" / "1.png", line / "in" / "0.png")
    watching.step()
    watching.step()
    assert len(rows(line)) == 7


def test_a_bad_file_is_a_failed_row(line: Path, watching: Watch) -> None:
    (line / "in" / "bad.png").write_bytes(b"none")
    watching.step()
    watching.step()
    failed = [each for each in rows(line) if each["prediction"]["verdict"] == "failed"]
    assert [Path(each["prediction"]["path"]).name for each in failed] == ["bad.png"]


def test_the_table_has_what_the_rows_have(line: Path, watching: Watch) -> None:
    watching.step()
    watching.step()
    watching.write()
    table = pd.read_csv(line / "out" / "predictions.csv")
    assert sorted(table["path"]) == sorted(each["prediction"]["path"] for each in rows(line))


def test_the_table_is_written_where_nothing_more_comes(
    line: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.write()
    watching.step()
    watching.step()
    assert len(pd.read_csv(line / "out" / "predictions.csv")) == 0
    monkeypatch.setattr(watch, "TABLE_EVERY", 0.0)
    watching.step()
    assert len(pd.read_csv(line / "out" / "predictions.csv")) == 6


def test_what_has_no_result_yet_is_counted(line: Path, watching: Watch) -> None:
    found = []
    for change in (b"", b"more", b""):
        with (line / "in" / "0.png").open("ab") as file:
            file.write(change)
        watching.step()
        found.append(watching.waiting)
    watching.step()
    assert (found, watching.waiting) == ([6, 1, 0], 0)


def test_a_file_from_a_clock_that_is_ahead_is_scored(line: Path, watching: Watch, monkeypatch: Any) -> None:
    monkeypatch.setattr(watch, "SETTLED", 1.0)
    for path in (line / "in").iterdir():
        os.utime(path, (time.time() + 3600,) * 2)
    watching.step()
    assert watching.step() == 6


def test_a_folder_of_another_share_of_alarms_is_refused(done: Bench, scorer: Scorer, line: Path) -> None:
    with Watch(scorer, line / "in", line / "out").alone():
        pass
    other = Scorer(done, replace(scorer.cell, alarms=0.4))
    with (
        pytest.raises(PlanError, match=r"holds results of parts/bolt padim seed 0 \(.{8}\) with alarms 0.2"),
        Watch(other, line / "in", line / "out").alone(),
    ):
        pass


def test_a_folder_of_predictions_is_not_written_over(scorer: Scorer, line: Path) -> None:
    prediction.predict(scorer, [line / "in" / "0.png"], line / "out")
    with (
        pytest.raises(PlanError, match="holds predictions of another command"),
        Watch(scorer, line / "in", line / "out").alone(),
    ):
        pass
    assert len(pd.read_csv(line / "out" / "predictions.csv")) == 1


def test_a_folder_that_cannot_be_made_is_refused(scorer: Scorer, line: Path) -> None:
    (line / "file").write_text("")
    with pytest.raises(PlanError, match="cannot be written to"), Watch(scorer, line / "in", line / "file").alone():
        pass


def test_the_page_shows_the_latest_and_the_rate(line: Path, watching: Watch) -> None:
    watching.step()
    watching.step()
    page = (line / "out" / "index.html").read_text()
    assert page.count("<img") == 6 and "good parts alone alarm in at most 142.9 of 1,000" in page


def test_the_page_says_where_parts_have_moved(watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "drifted", lambda self: 1e-6)
    assert "Drift: the latest 200 parts that passed score higher than" in watching.page()


def test_two_at_once_are_refused(scorer: Scorer, line: Path, watching: Watch) -> None:
    with pytest.raises(PlanError, match="another watch writes to"), Watch(scorer, line / "in", line / "out").alone():
        pass


@pytest.mark.parametrize(
    ("source", "out", "error"), [("none", "out", "is no folder"), ("in", "in/out", "lies in --in")]
)
def test_folders_that_cannot_be_are_refused(scorer: Scorer, line: Path, source: str, out: str, error: str) -> None:
    with pytest.raises(PlanError, match=error):
        Watch(scorer, line / source, line / out)


def test_a_file_settles_only_after_a_while(line: Path, watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SETTLED", 1000.0)
    for path in (line / "in").iterdir():
        os.utime(path, (time.time() - 2000,) * 2 if path.stem == "3" else None)
    watching.step()
    assert watching.step() == 1
