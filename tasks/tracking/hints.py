"""What this workspace remembers of MLflow, a small file each: hints, without which it is looked up or made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from adcore.core.disk import write_file


def read(path: Path) -> dict[str, str]:
    """Nothing where there is no such file, or one that is none of ours."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write(path: Path, kept: Mapping[str, str]) -> None:
    """Raises DiskFull, OSError."""
    write_file(path, json.dumps(kept).encode())
