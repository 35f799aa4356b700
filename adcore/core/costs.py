"""What a step costs, and what it ran on: recorded beside every artifact."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Cost:
    """Seconds of a step and the peak memory of the process while it ran, in MB."""

    seconds = 0.0
    peak_mb = 0.0


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Fill a Cost for the block. The peak is the process's own (its other threads included)."""
    cost = Cost()
    exact = _reset_peak()
    started = time.perf_counter()
    yield cost
    cost.seconds = time.perf_counter() - started
    cost.peak_mb = _peak_mb(exact)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    except OSError:
        return False
    return True


def _peak_mb(exact: bool) -> float:
    if exact:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@functools.cache
def environment() -> dict[str, Any]:
    """Versions of what computes, the platform, and the git commit ("" outside a checkout)."""
    names = ("torch", "timm", "numpy", "scipy", "scikit-learn", "pillow", "numba")
    versions = {name: importlib.metadata.version(name) for name in names}
    versions |= {
        name: version for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12") if (version := _installed(name))
    }
    return {"versions": versions, "platform": platform.platform(), "git_commit": git_commit()}


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def git_commit() -> str:
    """The commit of the code in use, with `+` where files are changed; "" outside a checkout of its own, as where it is
    unpacked or installed inside another repository."""
    checkout = Path(__file__).resolve().parents[2]
    try:
        if Path(_git(checkout, "rev-parse", "--show-toplevel")).resolve() != checkout:
            return ""
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    # A hook of another repository names that one in them.
    hooks = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hooks}
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
