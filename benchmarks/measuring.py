"""What the benchmarks share: a command's seconds and peak memory, the conditions it ran under, a table."""

from __future__ import annotations

import importlib.metadata
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """A command that ended well: wall seconds, peak resident MB of its own process, what it wrote to stdout.

    marked: wall seconds until it wrote what was waited for to stderr."""

    seconds: float
    peak_mb: float
    output: str
    marked: float = math.nan


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, mark: str = "") -> Run:
    """Run a command in the repository, with `environment` beside ours; mark: part of a line of stderr that is waited
    for. Exits with its error output if it fails."""
    settings = {**os.environ, **(environment or {})}
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env=settings, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peaks = [0.0]
    watch = threading.Thread(target=_watch, args=(process, peaks))
    watch.start()
    errors: list[str] = []
    marks: list[float] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            errors.append(line)
            if mark and mark in line and not marks:
                marks.append(time.perf_counter() - begin)

    reading = threading.Thread(target=read)
    reading.start()
    assert process.stdout is not None
    output = process.stdout.read()
    process.wait()
    seconds = time.perf_counter() - begin
    watch.join()
    reading.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\nended with code {process.returncode}:\n{''.join(errors)[-4000:]}")
    return Run(seconds, max(peaks), output, *marks)


def _watch(process: subprocess.Popen[str], peaks: list[float]) -> None:
    # Not the resource usage of a waited-for child: that begins with the memory of the process that forked it.
    while process.poll() is None:
        peaks.append(peak_mb(process.pid))
        time.sleep(0.05)


def peak_mb(pid: int | str = "self") -> float:
    """Peak resident MB of a process (Linux); 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)


def print_conditions(*libraries: str) -> None:
    """The command, the cores, the load before it and the versions: a ratio is worth nothing without them."""
    name = Path(sys.argv[0]).stem
    print(f"$ python -m benchmarks.{name} {' '.join(sys.argv[1:])}".rstrip())
    versions = ", ".join(f"{library} {importlib.metadata.version(library)}" for library in libraries)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average {load} at the start; {versions}", flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need; the first to the left, the others to the right; floats with 2 decimals."""
    lines = [list(header), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        first, *others = (text.rjust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]).rstrip(), flush=True)


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
