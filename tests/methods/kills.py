"""A training that is killed between two epochs and begun again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adcore.core.contracts import Method

State = dict[str, torch.Tensor]


def alone_and_killed(make: Callable[..., Method], source: Callable[[], Any], folder: Path) -> tuple[State, State]:
    """What a method learns by itself, and what it does when it is killed behind 0.6 of it, and made and fitted again.

    make: with the file of its checkpoint as `checkpoint`. source: what it is fitted on, new each time."""

    def kill(done: float) -> None:
        if done > 0.6:
            raise KeyboardInterrupt

    alone, killed, again = make(checkpoint=None), *(make(checkpoint=folder / "state") for _ in range(2))
    alone.fit(source())
    with pytest.raises(KeyboardInterrupt):
        killed.fit(source(), kill)
    again.fit(source())
    return alone.state(), again.state()
