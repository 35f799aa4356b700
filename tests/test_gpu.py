"""benchmarks/gpu.py on the CPU: every row is there and agrees; what is told where there is no card, or no agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from adcore.kernels.coreset import greedy_k_centre
from benchmarks import gpu
from benchmarks.gpu_parts import farthest_first, lloyd
from benchmarks.gpu_session import Row, Session, apart, farthest, timed
from tests.conftest import make_parts


class Uncompiled(torch.nn.Module):
    """What torch.compile gives where it fails at the first call."""

    def forward(self, pixels: torch.Tensor) -> None:
        raise RuntimeError("no compiler")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The cells of the table of one short run, which ended well."""
    folder = tmp_path_factory.mktemp("gpu")
    images = ["--images", str(make_parts(folder / "parts", ["bolt"]))]
    written = folder / "table.md"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda network, dynamic: Uncompiled())
        asked = ["--device", "cpu", "--size", "64", "--quick", "--compile"]
        assert gpu.main([*asked, *images, "--to", str(written)]) == 0
    lines = written.read_text(encoding="utf-8").splitlines()
    assert f"torch {torch.__version__}" in lines[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]


def test_every_part_has_rows(table: list[list[str]]) -> None:
    kinds = {row[0].split()[0].rstrip(",") for row in table}
    assert kinds == {"extract", "decode", "coreset", "k-means", "Gaussians", "neighbours", "pixel", "cell", "one"}


def test_every_row_agrees_or_was_skipped_for_a_reason(table: list[list[str]]) -> None:
    skipped = [row for row in table if row[6] == "skipped"]
    assert all(row[7] and not row[7].startswith("failed") for row in skipped)
    limits = [row for row in table if row[7].endswith(" limits")]  # decoding beside extraction: nothing to agree
    assert len(limits) == 1
    assert all(row[6] == "yes" for row in table if row not in skipped + limits)


def test_what_cannot_be_compiled_is_skipped(table: list[list[str]]) -> None:
    compiled = [row for row in table if row[0].endswith("torch.compile")]
    assert [row[6:] for row in compiled] == [["skipped", "RuntimeError: no compiler"]] * 2


def test_the_cells_are_all_three_methods(table: list[list[str]]) -> None:
    cells = [row[0].removeprefix("cell, ") for row in table if row[0].startswith("cell, ")]
    assert {"padim", "patchcore", "cfa"} < set(cells)


def test_a_missing_card_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("There is no CUDA card") and told.err.count("\n") == 1
    assert not told.out


def test_rows_that_do_not_agree_and_parts_that_fail_end_with_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def apart_for_once(session: Session) -> Iterator[Row]:
        yield Row("this", "CPU", 1.0, "s", 2.0, False, "far apart")

    def broken(session: Session) -> Iterator[Row]:
        yield Row("half of it", "CPU", 1.0, "s", 2.0, True)
        raise RuntimeError("out of luck")

    for part, told in ((apart_for_once, "NO far apart"), (broken, "failed: RuntimeError: out of luck")):
        monkeypatch.setattr(gpu, "PARTS", (part,))
        assert gpu.main(["--device", "cpu"]) == 1
        assert " ".join(capsys.readouterr().out.split()).endswith(told)


def test_a_part_behind_the_end_of_the_time_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "PARTS", gpu.PARTS[:1])
    assert gpu.main(["--device", "cpu", "--minutes", "-1"]) == 0
    assert "skipped after -1 minutes" in capsys.readouterr().out


def test_x_is_how_often_faster_the_second_form_is() -> None:
    assert Row("", "", 6.0, "s", 2.0).times == 3.0
    assert Row("", "", 6.0, "images/s", 2.0).times == pytest.approx(1 / 3)
    assert Row("").times is None


def test_the_clock_is_read_when_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append("done"))
    timed(lambda: events.append("work"), "cuda", least=0)
    assert events == ["work", "done", "work", "done"]  # the first is not counted


def test_differences_do_not_hide_what_is_not_a_number() -> None:
    one, nan = torch.ones(2), torch.full((2,), math.nan)
    assert apart([2 * one, one], [2.5 * one, one]) == 0.25
    assert math.isnan(apart([one, one], [one, nan]))
    assert farthest({"a": math.nan, "b": 1.0}, {"a": math.nan, "b": 0.75}) == 0.25
    assert math.isnan(farthest({"a": 1.0, "b": 1.0}, {"a": math.nan, "b": 1.0}))


def test_the_plain_forms_in_closed_form() -> None:
    line = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    picks, radius = farthest_first(line, 3, 0)
    assert picks.tolist() == [0, 3, 2]
    assert radius == 1.0
    lattice = torch.randint(3, (200, 5), generator=torch.Generator().manual_seed(0)).float()  # full of ties
    assert farthest_first(lattice, 60, 7)[0].tolist() == greedy_k_centre(lattice.numpy(), 60, 7)[0].tolist()
    assert lloyd(line, line[[0, 3]]).flatten().tolist() == pytest.approx([5 / 3, 10.0])
