"""Rows of a leaderboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.report.conftest import a_row


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    return a_row
