"""A PostgreSQL of a test's own: in a temporary folder, on a free port of 127.0.0.1, gone with us.

    with _postgres.server() as postgres: postgres.create("prefect"); postgres.url("prefect", "asyncpg")

After `postgres.restart()` all data are there and all connections broken.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._server import dying_with
from flows._start import free_port

USER = "postgres"  # of the database; and of the machine where we are root, whom PostgreSQL refuses
FAST, AT_ONCE = signal.SIGINT, signal.SIGQUIT  # how it is stopped: in order, or as in a crash


@dataclass
class Postgres:
    """A server that runs, with its folder, port and password."""

    binaries: Path
    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, driver: str = "psycopg2") -> str:
        """For SQLAlchemy; driver: asyncpg for Prefect's server, psycopg2 for MLflow's."""
        return f"postgresql+{driver}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        """A new, empty database."""
        self.run("createdb", *self._address, database)

    def sql(self, database: str, query: str) -> str:
        """What psql prints of a query: a line a row, columns between bars."""
        return self.run("psql", *self._address, "-XAt", "-d", database, "-c", query).strip()

    def start(self) -> None:
        """Returns when it takes connections."""
        assert self.process is None
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, preexec_fn=dying_with(os.getpid()), **_unprivileged(),
            )  # fmt: skip
        end = time.monotonic() + 60
        while subprocess.run([self.binaries / "pg_isready", *self._address], capture_output=True).returncode:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = FAST) -> None:
        """End it, and with it all connections; data stay. Nothing where it does not run."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def restart(self, how: signal.Signals = FAST) -> None:
        """The same data at the same port."""
        self.stop(how)
        self.start()

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def run(self, name: str, *arguments: str) -> str:
        """The output of one of PostgreSQL's programs. AssertionError with its errors where it fails."""
        done = subprocess.run(
            [self.binaries / name, *arguments],
            env=os.environ | {"PGPASSWORD": self.password}, cwd=self.folder, capture_output=True, text=True,
            check=False, **_unprivileged(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """One for the time of the block, without databases yet. `why_absent` says where there can be none."""
    folder = Path(tempfile.mkdtemp(prefix="adcore-postgres-"))
    binaries = _binaries()
    assert binaries is not None
    made = Postgres(binaries, folder)
    try:
        (folder / "password").write_text(made.password)
        for path in (folder, folder / "password"):
            if _unprivileged():
                shutil.chown(path, USER, USER)
        how = ["--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--encoding", "UTF8", "--no-sync"]
        made.run("initdb", "-D", str(folder / "data"), "-U", USER, "--locale", "C.UTF-8", *how)
        made.start()
        yield made
    finally:
        made.stop(AT_ONCE)
        shutil.rmtree(folder, ignore_errors=True)


def why_absent() -> str:
    """Why no PostgreSQL can be started here; "" where one can."""
    if _binaries() is None:
        return "PostgreSQL is not here (make test-cluster installs it as root: apt-get install postgresql)"
    if os.geteuid() == 0 and USER not in {user.pw_name for user in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {USER}"
    return ""


def _binaries() -> Path | None:
    """The folder of the newest that is installed; Debian has them on no path."""
    places = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    newest = max(places, key=lambda place: int(place.parent.name), default=None)
    return newest or (Path(found).resolve().parent if found else None)


def _unprivileged() -> dict[str, Any]:
    """For subprocess: the user that PostgreSQL runs as, where we are root."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
