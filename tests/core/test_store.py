"""The store: an artifact is complete or absent, whatever is killed, damaged or done twice at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adcore.core import store as store_module
from adcore.core.store import Store, intact

KIND, KEY = "fit", "abc123"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, key: str = KEY, text: str = "content") -> Path:
    with store.write(KIND, key, {"seconds": 1.5}) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "b.bin").write_bytes(bytes(range(256)))
    return store.path(KIND, key)


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "tmp").iterdir())


def child(store: Store, body: str) -> subprocess.Popen[str]:
    """Another process with `store`; returns once it has printed a line."""
    script = "import time\nfrom pathlib import Path\nfrom adcore.core.store import Store\n"
    script += f"store = Store(Path({str(store.root)!r}))\n"
    process = subprocess.Popen([sys.executable, "-c", script + body], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


HALF_WRITTEN = """
with store.write("fit", "abc123", {}) as folder:
    (folder / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_is_written_is_found(store: Store) -> None:
    assert not store.has(KIND, KEY)
    with pytest.raises(FileNotFoundError):
        store.meta(KIND, KEY)
    folder = put(store)
    assert folder == store.root / KIND / KEY and (folder / "a.txt").read_text() == "content"
    assert store.has(KIND, KEY) and not store.has(KIND, "other") and not store.has("maps", KEY)
    assert not leftovers(store)


def test_meta_tells_checksums_and_what_was_added_inside(store: Store) -> None:
    meta: dict[str, object] = {"seconds": 1}
    with store.write(KIND, KEY, meta) as folder:
        (folder / "a.txt").write_text("abc")
        meta["more"] = [1, 2]
    found = store.meta(KIND, KEY)
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2: sha256 of "abc"
    assert found == {"kind": KIND, "key": KEY, "seconds": 1, "more": [1, 2], "files": {"a.txt": known}}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(store: Store, error: type[BaseException]) -> None:
    with pytest.raises(error), store.write(KIND, KEY, {}) as folder:
        (folder / "a.txt").write_text("half")
        raise error
    assert not store.path(KIND, KEY).exists() and not leftovers(store)


def test_meta_that_cannot_be_written_leaves_nothing(store: Store) -> None:
    with pytest.raises(TypeError), store.write(KIND, KEY, {"x": object()}):
        pass
    assert not store.path(KIND, KEY).exists() and not leftovers(store)


def test_a_kill_in_the_middle_leaves_nothing_visible_and_the_next_writer_sweeps(store: Store) -> None:
    kill(child(store, HALF_WRITTEN))
    assert not store.has(KIND, KEY) and not store.path(KIND, KEY).exists()
    assert len(leftovers(store)) == 1
    put(store, "another")
    assert not leftovers(store)
    put(store)
    assert store.has(KIND, KEY)


def test_a_kill_at_any_instant_leaves_only_complete_artifacts(store: Store) -> None:
    body = """
print("ready", flush=True)
for number in range(100000):
    with store.write("fit", str(number), {}) as folder:
        (folder / "a.bin").write_bytes(bytes(100000))
        (folder / "b.bin").write_bytes(bytes(100000))
"""
    seen = 0
    for delay in (0.02, 0.05, 0.09):
        process = child(store, body.replace("str(number)", f"'{delay}-' + str(number)"))
        while not any((store.root / KIND).glob(f"{delay}-*")):
            time.sleep(0.005)
        time.sleep(delay)
        kill(process)
        there = list((store.root / KIND).iterdir())
        assert len(there) > seen and all(intact(folder) for folder in there)
        seen = len(there)


def test_another_process_at_work_is_not_swept_away(store: Store) -> None:
    process = child(store, HALF_WRITTEN)
    put(store, "another")
    assert len(leftovers(store)) == 1
    kill(process)


def test_what_another_machine_writes_is_not_swept_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers on several machines may share a workspace; a process of theirs is not seen here."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    monkeypatch.setattr("os.getpid", lambda: 2**22 + 1)  # beyond what Linux gives out: no process here has it
    with store.write(KIND, KEY, {}) as folder:
        monkeypatch.undo()
        (folder / "a.txt").write_text("theirs")
        put(store, "ours")
    assert store.has(KIND, KEY)


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing file", "missing meta", "broken meta"])
def test_a_damaged_artifact_is_not_there_and_is_removed(store: Store, damage: str) -> None:
    folder = put(store)
    if damage == "changed":
        content = bytearray((folder / "b.bin").read_bytes())
        content[7] ^= 1
        (folder / "b.bin").write_bytes(content)
    elif damage == "truncated":
        os.truncate(folder / "b.bin", 100)
    elif damage == "missing file":
        (folder / "a.txt").unlink()
    elif damage == "missing meta":
        (folder / "meta.json").unlink()
    else:
        os.truncate(folder / "meta.json", 20)
    assert not store.has(KIND, KEY)
    assert not folder.exists() and not leftovers(store)
    put(store)
    assert store.has(KIND, KEY)


def test_two_writers_of_one_key_both_succeed(store: Store) -> None:
    with store.write(KIND, KEY, {"by": "outer"}) as outer:
        (outer / "a.txt").write_text("same")
        with store.write(KIND, KEY, {"by": "inner"}) as inner:
            (inner / "a.txt").write_text("same")
    assert store.has(KIND, KEY) and store.meta(KIND, KEY)["by"] == "inner"  # who finished first
    assert not leftovers(store)


def test_a_writer_replaces_a_damaged_artifact(store: Store) -> None:
    (put(store) / "a.txt").write_text("damaged")
    put(store, text="new")
    assert store.has(KIND, KEY) and (store.path(KIND, KEY) / "a.txt").read_text() == "new"


def test_processes_that_write_and_ask_at_once_lose_nothing(store: Store) -> None:
    body = """
print("ready", flush=True)
for number in range(150):
    key = str(number)
    store.has("fit", str(number + 1))
    if not store.has("fit", key):
        with store.write("fit", key, {}) as folder:
            (folder / "a.bin").write_bytes(key.encode() * 1000)
    assert store.has("fit", key), key
    assert store.meta("fit", key)["key"] == key
"""
    processes = [child(store, body) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    assert all(intact(store.path(KIND, str(number))) for number in range(150)) and not leftovers(store)


def test_an_artifact_that_appears_while_it_is_asked_for_is_not_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finishes it just after this one has found nothing."""
    target, appeared = store.path(KIND, KEY), False

    def then_appear(found: bool) -> bool:
        nonlocal appeared
        if not found and not appeared:
            appeared = True
            put(store)
        return found

    exists, real = Path.exists, intact
    monkeypatch.setattr(Path, "exists", lambda path: then_appear(exists(path)) if path == target else exists(path))
    monkeypatch.setattr(store_module, "intact", lambda folder: then_appear(real(folder)))
    store.has(KIND, KEY)
    monkeypatch.undo()
    assert appeared and store.has(KIND, KEY)


def test_fallbacks_are_adopted_where_they_are_sound(store: Store, tmp_path: Path) -> None:
    put(store)
    put(store, "bad")
    pulled = tmp_path / "artifacts"
    for key in (KEY, "bad"):
        store.export(KIND, key, pulled)
    (pulled / KIND / "bad" / "a.txt").unlink()
    fresh = Store(tmp_path / "fresh", [tmp_path / "absent", pulled])
    assert fresh.has(KIND, KEY) and intact(fresh.path(KIND, KEY)) and fresh.meta(KIND, KEY) == store.meta(KIND, KEY)
    assert not fresh.has(KIND, "bad") and not fresh.path(KIND, "bad").exists()
    assert (pulled / KIND / "bad" / "b.bin").exists()  # what DVC tracks is not ours to remove
    assert not leftovers(fresh)


def test_a_damaged_artifact_is_replaced_by_a_sound_fallback(store: Store, tmp_path: Path) -> None:
    put(store)
    store.export(KIND, KEY, tmp_path / "artifacts")
    store = Store(store.root, [tmp_path / "artifacts"])
    path = store.path(KIND, KEY) / "a.txt"
    path.unlink()  # not written to in place: it is a hard link of the exported file
    path.write_text("damaged")
    assert store.has(KIND, KEY) and path.read_text() == "content"


@pytest.mark.parametrize("links", [True, False])
def test_export_with_and_without_hard_links(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    source = put(store)

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "artifacts"
    store.export(KIND, KEY, target)
    assert intact(target / KIND / KEY) and not leftovers(store)
    assert (target / KIND / KEY / "a.txt").samefile(source / "a.txt") == links
    (target / KIND / KEY / "b.bin").unlink()
    store.export(KIND, KEY, target)
    assert intact(target / KIND / KEY)


LOCKED = """
with store.lock("abc123"):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_exclusive_by_key_and_a_killed_holder_frees_it(store: Store) -> None:
    process = child(store, LOCKED)
    got = threading.Event()

    def wait() -> None:
        with store.lock(KEY):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    with store.lock("another", wait=False) as free, store.lock(KEY, wait=False) as taken:
        assert free and not taken
    assert not got.wait(0.3)
    kill(process)
    assert got.wait(10)
    waiting.join()


def test_a_lock_holds_between_threads_and_after_an_error(store: Store) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with pytest.raises(ValueError, match="boom"), store.lock(KEY):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with guard:
                inside -= 1
            raise ValueError("boom")

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def aged(store: Store, keys: str) -> None:
    """Artifacts named by letters, the first of them the longest unused."""
    for age, key in enumerate(reversed(keys)):
        put(store, key)
        os.utime(store.path(KIND, key), (1e9 - age, 1e9 - age))


def there(store: Store) -> str:
    return "".join(sorted(path.name for path in (store.root / KIND).iterdir()))


def test_the_longest_unused_go_first_and_no_more_than_have_to(store: Store) -> None:
    aged(store, "abcd")
    one = sum(file.stat().st_size for file in store.path(KIND, "a").iterdir())
    store.keep_within(KIND, 4 * one)
    assert there(store) == "abcd"
    store.used(KIND, "a")
    store.keep_within(KIND, 4 * one, wanted=one + 1)
    assert there(store) == "ad"
    assert leftovers(store) == []


def test_what_is_locked_stays(store: Store) -> None:
    aged(store, "ab")
    with store.lock("a"):
        store.keep_within(KIND, 0)
    assert there(store) == "a"
