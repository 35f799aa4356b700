"""A disk of a few megabytes: the run says so in one sentence, loses nothing, and goes on when there is room."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adcore.core.store import intact
from adcore.results.frame import read, same

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a workspace on a disk of so many megabytes, or give it so many."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]

    def give(megabytes: int) -> Path:
        options = f"size={megabytes}m" + (",remount" if folder.is_mount() else "")
        if subprocess.run([*mount, options, "tmpfs", str(folder)], capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        return folder

    yield give
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run(module: str, plan: Path, workspace: Path) -> tuple[int, str, list[str], float]:
    """Exit code, stdout, lines of stderr, and the seconds from the last step that was begun to the end."""
    command = [sys.executable, "-m", module, "--plan", str(plan), "--workspace", str(workspace)]
    process = subprocess.Popen(
        command,
        cwd=REPO,
        env=os.environ | {"PREFECT_API_URL": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines, begun = [], time.monotonic()
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if line.startswith("["):
            begun = time.monotonic()
    out = process.communicate()[0]
    return process.returncode, out, lines, time.monotonic() - begun


def test_a_full_disk_is_one_sentence_and_a_rerun_is_equal(
    plan_file: PlanFile, tmp_path: Path, small: Callable[[int], Path]
) -> None:
    plan = plan_file()
    code, _, lines, _ = run("flows.benchmark", plan, tmp_path / "roomy")
    assert code == 0, lines
    workspace = small(2)
    for megabytes in (2, 3, 5, 8):
        small(megabytes)
        code, out, lines, seconds = run("flows.benchmark", plan, workspace)
        if code == 0:
            break
        assert code == 3, lines
        (error,) = [line for line in lines if not line.startswith("[")]
        assert re.search(
            rf"no space left in {workspace}\S*: (more than )?[\d,]+ bytes are wanted, [\d,]+ are free", error
        )
        assert re.fullmatch(r"cells: \d computed, \d cached, \d not run\n", out)
        assert seconds < 10
        store = workspace / ".cache/adcore/store"
        assert all(intact(folder) for kind in ("fit", "maps", "cell") for folder in store.glob(f"{kind}/*"))
        assert not list(workspace.rglob("*.part"))
    small(200)
    code, out, lines, _ = run("flows.benchmark", plan, workspace)
    assert code == 0, lines
    assert same(*(read(folder / "results/leaderboard.csv") for folder in (workspace, tmp_path / "roomy")))


@pytest.mark.parametrize("module", ["flows.prepare", "flows.validate", "flows.leaderboard", "flows.efficiency"])
def test_every_command_says_so_at_once(plan_file: PlanFile, small: Callable[[int], Path], module: str) -> None:
    workspace = small(1)
    (workspace / "other").write_bytes(bytes(900_000))
    code, _, lines, _ = run(module, plan_file(), workspace)
    assert code == 3
    (error,) = lines
    assert error.startswith(f"error: no space left in {workspace}")
