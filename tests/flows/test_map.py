"""The walk of docs/map.md is that of a real run."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flows.benchmark import benchmark

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs/map.md").read_text(encoding="utf-8")
WALK = re.findall(r"^\| (\d+) \| `([\w./]+)` \|", PAGE, re.MULTILINE)


def test_the_walk_is_numbered_and_counted() -> None:
    assert [int(number) for number, _ in WALK] == list(range(1, len(WALK) + 1))
    assert len({file for _, file in WALK}) == len(WALK)
    assert f"\n{len(WALK)} files." in PAGE


def test_a_run_goes_through_every_file_of_the_walk(plan_file: Callable[..., Path], work: Path) -> None:
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        state = benchmark(plan=str(plan_file(methods=["padim"])), workspace=str(work), return_state=True)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert state.is_completed()
    assert [file for _, file in WALK if str(REPO / file) not in files] == []
