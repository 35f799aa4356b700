"""What a step runs on, and whether others keep it from running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adcore.core import hardware as machine

# Half a second of work, and the share of it that was spent waiting; on one core, as are those beside it.
WORK = """
import os, sys, time
from adcore.core.hardware import waited
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if sys.argv[1] == "beside":
    print("on", flush=True)
    while True: pass
before, end = waited(), time.perf_counter() + 0.5
while time.perf_counter() < end: pass
print((waited() - before) / 0.5)
"""


@pytest.fixture(autouse=True)
def fresh() -> None:
    machine.hardware.cache_clear()


def test_a_processor_is_told_by_its_model_and_the_cores_that_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nprocessor\t: 1\nmodel name\t: other\n"
    )
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})
    assert machine.hardware("cpu") == "AMD EPYC 7B13, 2 cores"


def test_a_processor_that_is_not_told_is_its_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert machine.hardware("cpu") == "arm64, 1 core"


def test_a_card_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"NVIDIA H200 of {device}")
    assert machine.hardware("cuda:1") == "NVIDIA H200 of cuda:1"


def test_waiting_is_that_of_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread, nanoseconds in (("1", 1_500_000_000), ("2", 250_000_000)):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(f"99 {nanoseconds} 7\n")
    monkeypatch.setattr(machine, "THREADS", tmp_path)
    assert machine.waited() == 1.75


def test_where_the_system_does_not_tell_waiting_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "THREADS", tmp_path / "nothing")
    assert machine.waited() is None


@pytest.mark.skipif(machine.waited() is None, reason="this system does not tell how long threads wait")
def test_who_shares_a_core_with_another_waits() -> None:
    """Half of the time, whatever else this machine does."""
    command = [sys.executable, "-c", WORK]
    with subprocess.Popen([*command, "beside"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "on\n"
        done = subprocess.run([*command, "measured"], capture_output=True, text=True, check=True)
        other.kill()
    assert float(done.stdout) > 0.3


@pytest.mark.parametrize(
    ("share", "load", "busy"),
    [(0.02, 99.0, False), (0.4, 0.0, True), (None, 2.5, True), (None, 1.5, False)],
)
def test_a_busy_machine_is_one_that_makes_us_wait(
    share: float | None, load: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MOST_WAIT", 0.1)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert machine.is_busy(share) is busy
