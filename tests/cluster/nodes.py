"""Nodes of a Ray cluster on loopback addresses of one machine, each with a workspace of its own, for tests and
benchmarks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flows._start import free_port
from tests.servers import until

REPO = Path(__file__).parents[2]
# The same in every process, since sums differ in their last digits with the number of threads.
THREADS = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "NUMBA_CACHE_DIR": ""}


@dataclass
class Nodes:
    """head: its address. processes: node -> the process that leads its group."""

    folder: Path
    port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return f"127.0.0.2:{self.port}"

    def workspace(self, name: str) -> Path:
        return self.folder / name

    def start(self, name: str, host: str, ports: range, *arguments: str, **variables: str) -> None:
        self.workspace(name).mkdir(exist_ok=True)
        own = {"ADCORE_NODE_WORKSPACE": str(self.workspace(name)), **variables}
        fixed = ["--block", "--num-cpus", "1", "--node-ip-address", host, "--object-store-memory", "100000000"]
        fixed += ["--min-worker-port", str(ports.start), "--max-worker-port", str(ports.stop)]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(Path(sys.executable).with_name("ray")), "start", *fixed, *arguments],
                cwd=REPO, env=self.environment | own, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(lambda: "Ray runtime started" in (self.folder / f"{name}.log").read_text(errors="replace"), 120)

    def start_second(self, resources: str = "{}", **variables: str) -> None:
        """Beside the head; resources: custom ones of Ray, as JSON; variables: of its environment."""
        joined = ["--address", self.head, "--resources", resources]
        self.start("two", "127.0.0.3", range(20200, 20300), *joined, **variables)

    def kill(self, name: str) -> None:
        """As when its machine is switched off."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def nodes_of(count: int, **variables: str) -> Iterator[Nodes]:
    """One node of one core, or two, for the time of the block; variables: of the environment of all."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Ray's sockets take paths of at most 107 bytes
    (folder / "token").write_text(secrets.token_hex(32))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_USAGE_STATS_ENABLED": "0"}
    own = {"PYTHONPATH": str(REPO), "PREFECT_API_URL": "", **variables}
    made = Nodes(folder, free_port(), {**os.environ, **THREADS, **token, **own})
    head = ["--head", "--port", str(made.port), "--include-dashboard", "false", "--temp-dir", str(folder / "t")]
    try:
        made.start("one", "127.0.0.2", range(20000, 20100), *head)
        if count == 2:
            made.start_second()
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)
        shutil.rmtree(folder, ignore_errors=True)
