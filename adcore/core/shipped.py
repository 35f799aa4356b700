"""Where the files that come with adcore are: in a checkout at its top, in an installed package inside it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def folder(name: str) -> Path:
    """The folder `suites` or `published`."""
    return CHECKOUT / name if CHECKOUT else PACKAGE / f"_{name}"  # setup.py puts them there
