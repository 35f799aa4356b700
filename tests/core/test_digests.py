"""Digests of code that are kept between processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adcore.core import digests, keys
from tests.reach import forget

NAME = "adcore.kernels.nearest:nearest"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digests are kept within the test."""
    forget()
    monkeypatch.setattr(digests, "_folder", tmp_path)
    return tmp_path / digests.NAME


def unreadable() -> str:
    raise AssertionError("the code was read")


def test_a_digest_is_read_once_for_the_same_sources(place: Path) -> None:
    assert digests.kept("a", lambda: "1") == digests.kept("a", unreadable) == "1"


def test_others_are_added_to_it(place: Path) -> None:
    digests.kept("a", lambda: "1")
    digests.kept("b", lambda: "2")
    assert json.loads(place.read_text())["digests"] == {"a": "1", "b": "2"}


def test_other_sources_have_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests.kept("a", lambda: "1")
    monkeypatch.setattr(digests, "sources", lambda: "other")
    monkeypatch.setattr(digests, "_first", lambda: "other")
    assert digests.kept("a", lambda: "2") == "2"


def test_nothing_is_kept_of_sources_that_change_in_the_meantime(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_first", lambda: "those before")
    assert (digests.kept("a", lambda: "1"), place.exists()) == ("1", False)


def test_nothing_is_kept_of_sources_that_change_while_they_are_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> str:
        monkeypatch.setattr(digests, "sources", lambda: "other")
        return "1"

    assert (digests.kept("a", made), place.exists()) == ("1", False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sources": 1}', '{"sources": "x", "digests": 3}'])
def test_a_file_that_is_none_of_ours_is_passed_over(place: Path, text: str) -> None:
    place.write_text(text.replace('"x"', json.dumps(digests.sources())))
    assert digests.kept("a", lambda: "1") == "1"


def test_every_source_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text("x = 1")
    monkeypatch.setattr(digests, "PACKAGE", tmp_path)
    before = digests.sources()
    (tmp_path / "a" / "b.py").write_text("x = 2")
    assert digests.sources() != before


def test_keys_are_the_same_with_it_and_without(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keys.code(NAME)
    keys.code.cache_clear()
    monkeypatch.setattr(digests, "_folder", None)
    assert keys.code(NAME) == kept


def test_code_that_is_kept_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keys.code(NAME)
    keys.code.cache_clear()
    monkeypatch.setattr(keys, "reached", unreadable)
    assert keys.code(NAME) == kept
