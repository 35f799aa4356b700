"""Small parts of sentences, and names of files that one room writes and another reads."""

from __future__ import annotations

TRAINING = "training.json"  # in a maps artifact: the curves of the method's training


def counted(number: int, one: str, many: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {one if number == 1 else many}"
