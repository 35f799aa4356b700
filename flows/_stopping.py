"""How a command ends before its work is done: the step in hand is dropped, children are ended, one last line tells what
there is.

A thread of its own hears Ctrl-C and SIGTERM, because the main thread may be inside a library for minutes, and Prefect
waits for the step that computes, also behind one that found the disk full. Nothing is lost by leaving that step: an
artifact appears by one rename, and the next run sweeps what is half-written.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE = 1.5  # seconds for an orderly end; then, or at a second signal, the process ends at once
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Counts = tuple[int, int, int]  # cells: computed by this command, cached before it, not run

_counts: list[Callable[[], Counts]] = []
_lines: list[Callable[[], str]] = []
_endings: list[Callable[[], object]] = []
_listening = False


def listen() -> None:
    """From now on a signal ends this process in order. Only for a command, and in its main thread."""
    global _listening
    if _listening:
        return
    _listening = True
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell's job in the background ignores Ctrl-C
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_wait, args=(heard,), name="stopping", daemon=True).start()


@contextlib.contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` where the process is stopped within the block; the innermost first."""
    _endings.append(end)
    try:
        yield
    finally:
        _endings.remove(end)


def count(counts: Callable[[], Counts]) -> None:
    """What the last line of a stopped command adds up, for each plan that it has come to."""
    if _listening:
        _counts.append(counts)


def tell(line: Callable[[], str]) -> None:
    """The last line of a stopped command that computes no plan."""
    _lines[:] = [line]


def last_line() -> str:
    """Of a command that could not do all."""
    if _lines:
        return _lines[0]()
    computed, cached, left = (sum(column) for column in zip((0, 0, 0), *(counts() for counts in _counts), strict=True))
    return f"cells: {computed} computed, {cached} cached, {left} not run"


def leave(code: int, sentence: str) -> None:
    """End a command now, whatever its other threads are at: its children, then a sentence and the last line. Anything
    else than a command goes on."""
    if not _listening:
        return
    for end in reversed(_endings):
        with contextlib.suppress(OSError):
            end()
    with contextlib.suppress(OSError, ValueError):  # who read our output may be gone
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), f"{last_line()}\n".encode())
    os._exit(code)


def _wait(heard: int) -> None:
    number = 0
    while number not in SIGNALS:
        number = os.read(heard, 1)[0]
    sentence = f"stopped by {signal.Signals(number).name}; run again to go on"
    threading.Thread(target=leave, args=(128 + number, sentence), daemon=True).start()
    time.sleep(0.2)  # Prefect sends itself the same signal again when it unwinds a flow
    select.select([heard], [], [], PATIENCE)
    os._exit(128 + number)
