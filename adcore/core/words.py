"""Small parts of sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {one if number == 1 else many}"
