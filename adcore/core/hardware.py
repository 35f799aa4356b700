"""What a step runs on, and whether others keep it from running: costs of unlike machines do not compare, nor those of
a busy one."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

MOST_WAIT = 0.1  # of the time of a measurement that may be spent waiting for a core before the machine counts as busy
CPUINFO = Path("/proc/cpuinfo")
THREADS = Path("/proc/self/task")


@functools.cache
def hardware(device: str) -> str:
    """The card that a device is, or the processor and the cores that this process may use of it: AMD EPYC, 2 cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} core{'s' if cores != 1 else ''}"


def waited() -> float | None:
    """Seconds that the threads of this process have been ready to run and had no core, so far; None where the system
    does not tell. Only differences over threads that go on mean something."""
    try:
        # https://docs.kernel.org/scheduler/sched-stats.html: nanoseconds on a core, waiting for one, and slices
        return sum(int((thread / "schedstat").read_text().split()[1]) for thread in THREADS.iterdir()) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def is_busy(share: float | None) -> bool:
    """Whether a measurement that spent this share of its time waiting for a core means nothing; where the system does
    not tell, whether more is running than this machine has cores for."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) if share is None else share > MOST_WAIT


def _processor() -> str:
    """Its model; where the system does not tell, its architecture."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (models or [platform.processor() or platform.machine()])[0]
