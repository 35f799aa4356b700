"""A cache of what files hold may be damaged in any way: it costs reading again, and never an answer that is not so."""

import sqlite3
from contextlib import closing

import pytest

from adcore.datasets import manifest, probe_cache

ROWS = [
    (f"/set/{i}.png", "image:", "1 2 3", f"{i:064x}", 64, 48, "RGB", 1, 0, 1000 + i, i / 7, "", "") for i in range(200)
]


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "files.sqlite"
    probe_cache.remember(path, ROWS)
    return path


def recalled(cache):
    return sorted(probe_cache.recall(cache, "/set/", "/set0"))


def test_rows_come_back_as_they_were(cache):
    assert recalled(cache) == sorted(ROWS)
    assert probe_cache.recall(cache, "/other/", "/other0") == []


def header(path):
    path.write_bytes(b"no database" + path.read_bytes()[11:])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path):
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


def text(path):
    path.write_text("not a database, and shorter than one")


def another_table(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE probes (path TEXT)")


@pytest.mark.parametrize("damage", [header, cut, zeros, text, another_table])
def test_a_damaged_cache_is_made_anew_and_said_once(cache, capsys, damage):
    damage(cache)
    assert recalled(cache) == []
    (line,) = capsys.readouterr().err.splitlines()
    state = "of another version of adcore" if damage is another_table else "damaged"
    assert line.startswith(f"{cache} is {state} (")
    probe_cache.remember(cache, ROWS)
    assert recalled(cache) == sorted(ROWS)
    assert capsys.readouterr().err == ""


def test_a_changed_byte_of_a_value_is_not_believed(cache):
    content = cache.read_bytes()
    old, new = f"{7:064x}".encode(), f"{8:064x}".encode()
    assert content.count(old) == 1
    cache.write_bytes(content.replace(old, new))
    assert recalled(cache) == sorted(ROWS[:7] + ROWS[8:])


def test_a_locked_cache_is_done_without(cache, capsys, monkeypatch):
    monkeypatch.setattr(probe_cache, "PATIENCE", 0.1)
    with closing(sqlite3.connect(cache, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert recalled(cache) == []
    assert "database is locked" in capsys.readouterr().err
    assert len(recalled(cache)) == len(ROWS)


def test_a_folder_in_its_place_is_done_without(tmp_path, files, dataset, build):
    files.save(tmp_path / "line/bolt/train/good/0.png", 0, 2)
    (tmp_path / "cache/files.sqlite").mkdir(parents=True)
    assert len(build(dataset("folder", root="line"))) == 1


def test_a_manifest_is_the_same_after_damage(tmp_path, files, dataset, build, monkeypatch):
    for number in range(3):
        files.save(tmp_path / f"line/bolt/train/good/{number}.png", number, 2)
    first = build(dataset("folder", root="line"))
    header(tmp_path / "cache/files.sqlite")
    assert build(dataset("folder", root="line")).equals(first)
    monkeypatch.setattr(manifest, "_probe", None)  # kept again
    assert build(dataset("folder", root="line")).equals(first)
