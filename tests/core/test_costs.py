"""The commit that is recorded beside artifacts and runs: that of adcore, or none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adcore.core import costs

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    costs.git_commit.cache_clear()
    yield
    costs.git_commit.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Somebody's own repository, with a commit."""
    folder = tmp_path / "other"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    return folder


def unpack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """adcore's code, as far as its commit is concerned, in a folder."""
    module = folder / "adcore" / "core" / "costs.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(costs, "__file__", str(module))
    return module


def test_the_commit_of_the_checkout_is_recorded() -> None:
    assert costs.git_commit().rstrip("+") == git(REPO, "rev-parse", "HEAD")


def test_changed_files_are_marked(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = unpack(other, monkeypatch)
    git(other, "add", "adcore")
    git(other, "commit", "--quiet", "--message", "code")
    head = git(other, "rev-parse", "HEAD")
    assert costs.git_commit() == head
    module.write_text("changed = True\n")
    costs.git_commit.cache_clear()
    assert costs.git_commit() == f"{head}+"


def test_the_commit_of_a_repository_around_it_is_not(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(other / "vendor" / "adcore-1.0", monkeypatch)
    assert costs.git_commit() == ""


def test_outside_a_repository_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(tmp_path / "unpacked", monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert costs.git_commit() == ""


def test_the_hook_of_another_repository_does_not_lend_its_own(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = git(REPO, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert costs.git_commit().rstrip("+") == here
