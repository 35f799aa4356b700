"""The command on the nodes of a cluster, as processes of their own, and what they end with."""

from __future__ import annotations

import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.nodes import REPO


@dataclass
class Drivers:
    """Starts the command for the plan; what it ends with."""

    plan: Path
    environment: dict[str, str]
    marks: list[str] = field(default_factory=list)

    def start(self, workspace: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        self.marks.append(f"ADCORE_TEST_DRIVER={uuid.uuid4().hex}")
        name, _, value = self.marks[-1].partition("=")
        command = [sys.executable, "-m", "flows.benchmark", "--plan", str(self.plan), "--workspace", str(workspace)]
        return subprocess.Popen(
            [*command, *arguments], cwd=REPO, env={**self.environment, **variables, name: value}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, workspace: Path, *arguments: str, **variables: str) -> Ended:
        return Ended.of(self.start(workspace, *arguments, **variables))

    def left(self) -> list[str]:
        """Processes of ended drivers that go on."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                command = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command and set(variables) & set(self.marks):
                found.append(command.replace("\0", " "))
        return found


@dataclass(frozen=True)
class Ended:
    """line: the last one of its output."""

    code: int
    line: str
    errors: str

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Ended:
        out, errors = process.communicate(timeout=600)
        return cls(process.returncode, (out.strip().splitlines() or [""])[-1], errors)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Cells: computed, cached, failed."""
        computed, cached, failed = (int(word) for word in self.line.split() if word.isdigit())
        return computed, cached, failed
