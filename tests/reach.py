"""What keys are made of, for tests: definitions before they become a digest, and modules that are to be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adcore.core import _reading as reading
from adcore.core import _scopes as scopes
from adcore.core import keys
from adcore.core.sources import Definitions, reached
from adcore.engine import identity
from adcore.report import statistics
from adcore.results import samples


def forget() -> None:
    """Sources have changed."""
    for cached in (keys.code, reading.definitions, scopes.file, scopes.names_of, scopes.tree, scopes._names):
        cached.cache_clear()


def closure(*names: str, outside: tuple[str, ...] = ()) -> Definitions:
    """What `keys.code` makes a digest of."""
    return reached(map(keys.reference, names), {keys.reference(name) for name in outside})


def behind(identities: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives where identities are definitions."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (identity, samples, statistics):
            patch.setattr(module, "code", closure)
        return identities(*arguments)
