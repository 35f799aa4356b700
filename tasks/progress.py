"""Tells a person which cell is in hand and how long the rest will take: on a terminal, in a log, and in Prefect."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

Listener = Callable[[float, str], None]


class Display:
    """Progress over steps of known weights. One step at a time may be in hand in each thread."""

    def __init__(self, weights: dict[str, float], listener: Listener | None = None) -> None:
        self.weights = weights
        self.listener = listener
        self.total = sum(weights.values()) or 1.0
        self.done = 0.0
        self.started = time.monotonic()
        self.console = Console(stderr=True)
        self.live = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), TaskProgressColumn(), _Left(self),
            console=self.console, transient=True,
        )  # fmt: skip
        self.bar = self.live.add_task("starting", total=self.total)
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._told = 0.0

    def __enter__(self) -> Display:
        global _current
        _current = self
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        global _current
        _current = None
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.console.is_terminal:
            self.live.stop()

    def left(self) -> str:
        """`3 min left`, from the share of the work done so far."""
        elapsed = time.monotonic() - self.started
        if self.done < 0.02 * self.total or elapsed < 3:
            return "time left: not known yet"
        seconds = elapsed * max(0.0, self.total - self.done) / self.done
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    def passed(self, titles: list[str]) -> None:
        """These steps have ended; those that ran on another machine were not seen here."""
        for title in titles:
            if title not in self._begun:
                self.advance(title, self.weights.get(title, 0.0))

    def begin(self, title: str) -> None:
        self._begun.add(title)
        self.live.update(self.bar, description=title)
        if not self.console.is_terminal:
            sys.stderr.write(f"[{self.done / self.total:4.0%}] {title} ({self.left()})\n")
            sys.stderr.flush()
        self._tell(title, always=True)

    def advance(self, title: str, amount: float) -> None:
        with self._lock:
            self.done += amount
        self.live.update(self.bar, completed=self.done)
        self._tell(title)

    def _tell(self, title: str, always: bool = False) -> None:
        now = time.monotonic()
        if self.listener and (always or now - self._told > 5):
            self._told = now
            self.listener(100 * self.done / self.total, f"{title} ({self.left()})")


_current: Display | None = None  # a process shows one at a time; workers elsewhere show none


@contextmanager
def step(title: str) -> Iterator[Callable[[float], None]]:
    """Show `title` while the block runs; it calls what it gets with the fraction done."""
    display, told = _current, 0.0
    weight = display.weights.get(title, 0.0) if display else 0.0

    def progress(fraction: float) -> None:
        nonlocal told
        if display:
            display.advance(title, weight * (fraction - told))
            told = fraction

    if display:
        display.begin(title)
    try:
        yield progress
    finally:
        progress(1.0)


class _Left(ProgressColumn):
    def __init__(self, display: Display) -> None:
        super().__init__()
        self.display = display

    def render(self, task: Task) -> Text:
        return Text(self.display.left())
