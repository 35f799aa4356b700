"""Ctrl-C, SIGTERM, SIGKILL at any instant, to the process or to its group: it ends soon, and leaves nobody behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

PlanFile = Callable[..., Path]
Send = Callable[[int, int], None]
REPO = Path(__file__).parents[2]
LONG = [{"name": "cfa", "epochs": 100_000}]  # hours


@pytest.fixture
def start(plan_file: PlanFile, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a benchmark as a shell does, in a process group of its own, with a server of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin(module: str = "flows.benchmark", **changes: object) -> subprocess.Popen[str]:
        plan = plan_file(**{"methods": LONG, **changes})
        command = [sys.executable, "-m", module, "--plan", str(plan), "--workspace", str(tmp_path / "work")]
        running.append(
            subprocess.Popen(
                command,
                cwd=REPO,
                env=os.environ | {"PREFECT_API_URL": "", "TMPDIR": str(tmp_path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read what it tells until it is there."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it never told of {words}")


def until_it_listens(process: subprocess.Popen[str]) -> None:
    """Before that it is Python that starts, which ends by itself."""
    while True:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


def offspring(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, left = psutil.wait_procs(processes, timeout=2)
    return left


def to_process(pid: int, number: int) -> None:
    os.kill(pid, number)


def to_group(pid: int, number: int) -> None:
    os.killpg(pid, number)


def stop(process: subprocess.Popen[str], send: Send, number: int) -> tuple[str, str, float]:
    """Its stdout, its stderr since, and the seconds it took."""
    started = time.monotonic()
    send(process.pid, number)
    out, err = process.communicate(timeout=60)
    return out, err, time.monotonic() - started


def test_ctrl_c_drops_the_step_in_hand(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start()
    until(process, "fit parts/bolt")
    time.sleep(1)
    children = offspring(process)
    assert any("uvicorn" in " ".join(child.cmdline()) for child in children)
    out, err, seconds = stop(process, to_group, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < 3
    assert out == "cells: 0 computed, 0 cached, 2 not run\n"
    assert err == "stopped by SIGINT; run again to go on\n"
    assert alive(children) == []
    assert list(tmp_path.glob("adcore-*")) == []  # the server's folder


@pytest.mark.slow
@pytest.mark.parametrize("send", [to_process, to_group])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_any_instant(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, send: Send, number: int
) -> None:
    for delay in (0, 1.5, 4, 8, 14):
        process = start()
        until_it_listens(process)
        time.sleep(delay)
        children = offspring(process)
        out, err, seconds = stop(process, send, number)
        assert process.returncode == 128 + number, err
        assert seconds < 3
        assert out.splitlines()[-1].endswith("not run")
        assert "Traceback" not in err
        assert alive(children) == []
        assert list(tmp_path.glob("adcore-*")) == []


@pytest.mark.slow
def test_a_kill_at_any_instant_leaves_nobody(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    for number in range(24):
        process = start()
        time.sleep(0.5 * number)
        children = offspring(process)
        stop(process, to_process, signal.SIGKILL)
        assert alive(children) == [], f"after {0.5 * number} s"
    process = start()
    until(process, "fit parts/bolt")  # it has swept what the others left
    stop(process, to_process, signal.SIGINT)
    assert list(tmp_path.glob("adcore-server-*")) == []


@pytest.mark.slow
def test_the_line_tells_what_the_next_run_finds(start: Callable[..., subprocess.Popen[str]]) -> None:
    methods = ["padim", *LONG]
    process = start(methods=methods)
    until(process, "fit parts/bolt cfa")  # a category's methods follow each other
    out, _, _ = stop(process, to_group, signal.SIGINT)
    assert out == "cells: 1 computed, 0 cached, 3 not run\n"
    process = start(methods=["padim"])
    assert process.communicate(timeout=200)[0].splitlines()[-1] == "cells: 1 computed, 1 cached, 0 failed"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["flows.prepare", "flows.validate", "flows.leaderboard", "flows.efficiency"])
def test_every_command_stops(start: Callable[..., subprocess.Popen[str]], module: str) -> None:
    for delay in (2, 6):
        process = start(module)
        until_it_listens(process)
        time.sleep(delay)
        children = offspring(process)
        _, err, seconds = stop(process, to_group, signal.SIGINT)
        assert process.returncode == 130, err
        assert seconds < 3
        assert alive(children) == []


HANGING = """
import ctypes, time
import flows
from flows import _stopping
_stopping.listen()
with _stopping.ending(lambda: time.sleep(60)):
    print("ready", flush=True)
    while True:
        ctypes.CDLL(None).sleep(60)  # in a library
"""


@pytest.mark.parametrize("again", [True, False])
def test_an_end_that_hangs_is_cut_short(again: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGING], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    if again:
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - started < (1.5 if again else 3.5)


def test_a_server_ends_with_a_parent_that_is_killed_before_it_is_bound() -> None:
    """The child asks to die with its parent; a parent that is gone by then cannot take it along."""
    code = "import os; from flows._server import dying_with; dying_with(os.getppid() + 1)(); print('it lives on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""


def test_folders_of_killed_servers_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from flows import _server

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{_server.FOLDER}left"
    left.mkdir()
    (left / "lock").touch()
    with _server._folder() as first, _server._folder() as second:
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_of_prefect_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flows import _server

    log = tmp_path / "prefect.db"
    log.write_bytes(b"no database, and longer than the header of one" * 9)
    with _server._alone_with(log, {}):
        assert not log.exists()
    empty = tmp_path / f"empty-{version('prefect')}.db"
    empty.write_bytes(log.name.encode() * 99)
    with _server._made_once(tmp_path / "own.db", tmp_path, {}):
        assert not (tmp_path / "own.db").exists()
        sqlite3.connect(tmp_path / "own.db").execute("CREATE TABLE t (x)").connection.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is damaged")[0] for line in lines] == [str(log), str(empty)]
    with _server._made_once(tmp_path / "next.db", tmp_path, {}):  # what the one before left
        assert (tmp_path / "next.db").read_bytes() == empty.read_bytes()
