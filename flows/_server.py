"""The lifetime of a Prefect server of our own: started, waited for, ended with the process that started it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from adcore.core import sqlite_files
from adcore.core.disk import room
from flows import _guard, _start, _stopping
from flows._start import ServerError

FOLDER = "adcore-server-"  # in the system's folder for temporary files
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
DATABASES = (DATABASE, "PREFECT_API_DATABASE_CONNECTION_URL")  # its former name, which Prefect reads, too
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before anything forks


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Prefect's server for the time of the block, unless a configured one answers. It dies with this process.

    Prefect's own temporary server would survive a SIGKILL of its parent, lets anyone in, and loses events where
    `prefect.toml` names another one. Raises ServerError when it does not start, or the configured one is none.
    """
    with running(_start.connect()):
        yield


@contextlib.contextmanager
def running(url: str, meanwhile: Callable[[], object] | None = None) -> Iterator[None]:
    """As `server`, of what `connect` gave; `meanwhile` is called while one of our own starts."""
    if not url:
        yield
        return
    with started(url, os.environ["PREFECT_API_AUTH_STRING"], meanwhile=meanwhile):
        yield


@contextlib.contextmanager
def started(url: str, auth: str, pages: bool = False, meanwhile: Callable[[], object] | None = None) -> Iterator[None]:
    """A server of our own at a URL for the time of the block, for who has the authentication string; `pages` also shows
    Prefect's. Raises ServerError when it does not start."""
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    environment = _guard.environment(url, auth, pages)
    with contextlib.ExitStack() as stack:
        if any(environment.get(name) for name in DATABASES):  # a person's own
            starting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        elif pages:
            starting = _alone_with(home / "prefect.db", environment)
        else:
            starting = _made_once(stack.enter_context(_folder()) / "prefect.db", home, environment)
        with starting:
            process = _started(url, environment, home / "server.log", meanwhile)
        with _stopping.ending(lambda: _end(process, 0)):
            try:
                yield
            finally:
                _end(process, 5)


def _started(
    url: str, environment: dict[str, str], log: Path, meanwhile: Callable[[], object] | None = None
) -> subprocess.Popen[bytes]:
    """A server that answers. Raises ServerError."""
    length = log.stat().st_size if log.exists() else 0
    process = _launch(url, environment, log)
    with _stopping.ending(lambda: _end(process, 0)):
        try:
            if meanwhile is not None:
                meanwhile()
            _wait_until_healthy(url, process)
        except TimeoutError:
            process.kill()
            raise ServerError(_why(process, log, length)) from None
        except BaseException:
            process.kill()
            raise
    return process


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:  # it waits for connections that idle clients hold
        process.kill()
        process.wait()


@contextlib.contextmanager
def _alone_with(database: Path, environment: dict[str, str]) -> Iterator[None]:
    """The database of a server with pages, which keeps the log of its runs. Two processes that make it at once disturb
    each other, so one waits."""
    with database.with_name("start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _forget_damaged(database, "it is only a log of runs, and is made anew")
        environment[DATABASE] = sqlite_files.url(database, "aiosqlite")
        yield


@contextlib.contextmanager
def _made_once(database: Path, home: Path, environment: dict[str, str]) -> Iterator[None]:
    """The database of one command: a copy of an empty one, which the first command leaves, because making the tables
    takes longer than starting the server."""
    empty = home / f"empty-{version('prefect')}.db"
    known = dict.fromkeys((empty, _start.HOME / empty.name))  # the latter of another workspace
    for path in known:
        _forget_damaged(path, "it is only a cache, and is made anew")
    there = next((path for path in known if path.exists()), None)
    if there:
        database.write_bytes(there.read_bytes())
    environment[DATABASE] = sqlite_files.url(database, "aiosqlite")
    yield
    if there is None:
        with contextlib.suppress(OSError, sqlite3.Error):  # then the next command makes its own again
            _copy(database, empty)


def _copy(database: Path, target: Path) -> None:
    """What a running server has in its database, as one file without journals. Atomic."""
    part = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        part.replace(target)
    finally:
        sqlite_files.remove(part)


def _forget_damaged(database: Path, why: str) -> None:
    problem = sqlite_files.damage(database, 5) if database.exists() else ""
    if problem:
        sys.stderr.write(f"{database} is damaged ({problem}); {why}\n")
        sqlite_files.remove(database)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the time of the block that is not in the workspace, whose disk may be full; those of commands that
    were killed are removed."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{FOLDER}*/lock"):
        with contextlib.suppress(OSError), left.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its command is at work
            _remove(left.parent)
    with room(place):
        made = Path(tempfile.mkdtemp(prefix="adcore-new-"))
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(place / made.name.replace("adcore-new-", FOLDER))  # seen by others only with its lock
        with _stopping.ending(lambda: _remove(folder)):
            try:
                yield folder
            finally:
                _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _launch(url: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows._guard:create_app", "--app-dir", str(_start.SOURCE)]
    command += ["--host", "127.0.0.1", "--port", str(urlsplit(url).port), "--lifespan", "on", "--log-level", "error"]
    with log.open("ab") as output:  # in its own session, so that a terminal's Ctrl-C ends it only behind us
        return subprocess.Popen(
            command,
            env=environment,
            cwd=log.parent,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=dying_with(os.getpid()),
        )


def dying_with(parent: int) -> Callable[[], None]:
    """For the child of a process that may be killed: what makes it end with it, from its first instant."""

    def prepare() -> None:
        if LIBC is not None:
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; it may be busy starting, and hear nothing less
        if os.getppid() != parent:  # killed before it was asked for
            os._exit(1)

    return prepare


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server at `url` answers. Raises TimeoutError when it ends, or takes five minutes."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError


def _why(process: subprocess.Popen[bytes], log: Path, length: int) -> str:
    """Why it did not start: how it ended, and the last of what it wrote after the first `length` bytes of its log."""
    code = process.poll()
    if code is None:
        end = "it did not answer within five minutes"
    else:
        end = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
    with log.open("rb") as output:
        output.seek(length)
        lines = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    last = f"{' | '.join(lines[-3:])} ({log})" if lines else f"it wrote nothing to {log}"
    return f"Prefect's server did not start: {end}; {last}"
