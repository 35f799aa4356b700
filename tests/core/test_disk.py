"""A full disk, as libraries meet it, is one error that names the folder and the bytes; files appear whole."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from adcore.core.disk import LEAST, DiskFull, free_bytes, is_full, room, write_file
from adcore.core.store import Store

FULL = Path("/dev/full")  # every write to it says that no space is left


def test_more_than_is_free_is_refused_before_anything_is_written(tmp_path):
    wanted = free_bytes(tmp_path) + 10**12
    with pytest.raises(DiskFull) as caught:
        Store(tmp_path / "store").write("fit", "key", {}, wanted).__enter__()
    assert f"no space left in {tmp_path / 'store'}: {wanted:,} bytes are wanted" in str(caught.value)
    assert not (tmp_path / "store").exists()


def by_python():
    FULL.write_bytes(b"x" * LEAST)


def by_numpy():
    with FULL.open("wb") as file:
        np.save(file, np.zeros(LEAST))


def by_sqlite():
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")


def by_sqlalchemy():
    from sqlalchemy import create_engine, text

    with create_engine("sqlite://").connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 2"))
        connection.execute(text("CREATE TABLE t (x)"))
        connection.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))


@pytest.mark.parametrize("write", [by_python, by_numpy, by_sqlite, by_sqlalchemy])
def test_a_disk_that_fills_up_is_told_as_such(tmp_path, write):
    message = rf"no space left in {tmp_path}: more than [\d,]+ bytes are wanted"
    with pytest.raises(DiskFull, match=message), room(tmp_path):
        write()


def test_an_error_behind_a_full_disk_is_one_too():
    try:
        try:
            by_python()
        except OSError as error:
            raise RuntimeError("the step failed") from error
    except RuntimeError as error:
        assert is_full(error)


@pytest.mark.parametrize("error", [None, "No space left on device", ValueError("the loss is nan"), FileNotFoundError()])
def test_other_errors_are_not(error):
    assert not is_full(error)


def test_other_errors_pass_through_a_room(tmp_path):
    with pytest.raises(ValueError, match="nan"), room(tmp_path):
        raise ValueError("nan")


def test_an_artifact_cut_off_by_a_full_disk_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(DiskFull), store.write("fit", "key", {}) as folder:
        (folder / "part").write_text("half")
        by_python()
    assert not store.has("fit", "key")
    assert not list((tmp_path / "tmp").iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "results" / "board.csv"
    write_file(path, b"old")
    path.chmod(0o600)
    path.with_name("taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(path.with_name("taken"), b"new")
    assert {entry.name for entry in path.parent.iterdir()} == {"board.csv", "taken"}
    assert path.read_bytes() == b"old"
