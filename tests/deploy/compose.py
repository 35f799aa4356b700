"""deploy/compose.yaml as `docker compose` reads it, as far as adcore's files ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """The text with its variables: ${NAME}, ${NAME:-DEFAULT}, ${NAME:?MESSAGE}. Raises KeyError, with the
    message, where one is required and empty."""

    def value(found: re.Match[str]) -> str:
        name, kind, otherwise = found.groups()
        if kind == "?" and not given.get(name):
            raise KeyError(f"{name}: {otherwise}")
        return given.get(name) or (otherwise if kind == "-" else "")

    return VARIABLE.sub(value, text)


def example() -> dict[str, str]:
    """The variables of env.example, as they stand there."""
    lines = (DEPLOY / "env.example").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)
