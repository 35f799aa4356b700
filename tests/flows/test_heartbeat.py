"""Flow runs of processes that were killed become crashed, and no others do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext

from flows import _heartbeat, _start

PlanFile = Callable[..., Path]
Start = Callable[..., subprocess.Popen[str]]
REPO = Path(__file__).parents[2]
LONG = [{"name": "cfa", "epochs": 100_000}]  # hours
PATIENCE = 40  # seconds; heartbeats come each 30
# A flow run of a name, with heartbeats and tag or as Prefect has it, that goes on until a file is there.
WAITING = """
import contextlib, pathlib, sys, time
from flows import _heartbeat, _start
from prefect import flow
name, tagged, file = sys.argv[1:]

@flow(flow_run_name=name)
def waiting():
    while not pathlib.Path(file).exists():
        time.sleep(0.2)

with _heartbeat.sent() if tagged == "tagged" else contextlib.nullcontext():
    waiting()
"""


@pytest.fixture
def watch() -> Iterator[Callable[[float], None]]:
    """What makes the automation, which goes behind the test, since other tests have the same server."""
    yield _heartbeat.watch
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(_heartbeat.NAME):
            client.delete_automation(automation.id)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python with some arguments; it asks the server of these tests."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, *arguments]
        environment = os.environ | {"PWD": str(REPO)}  # as a shell has it, and prefect.yaml asks for it
        processes.append(
            subprocess.Popen(
                command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def states() -> dict[str, str]:
    """The flow runs of the server by name, with the state of each."""
    with get_client(sync_client=True) as client:
        return {run.name: run.state.type.value for run in client.read_flow_runs()}


def automations() -> list[tuple[UUID, timedelta]]:
    """Those of our name: the id, and how long it waits."""
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(_heartbeat.NAME)
    return [(each.id, each.trigger.model_dump()["within"]) for each in there]


def until(there: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"it did not come; {states()}"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_killed_has_crashed_and_nothing_else(
    watch: Callable[[float], None], start: Start, plan_file: PlanFile, tmp_path: Path
) -> None:
    watch(PATIENCE)
    before = states()
    command = start("-m", "flows.benchmark", "--plan", str(plan_file(methods=LONG)), "--workspace", str(tmp_path / "w"))
    tags = {"living": "tagged", "halted": "tagged", "of others": "not"}
    others = {name: start("-c", WAITING, name, tag, str(tmp_path / "end")) for name, tag in tags.items()}
    until(lambda: [state for name, state in states().items() if name not in before] == ["RUNNING"] * 4)
    (killed,) = states().keys() - before - tags.keys()
    time.sleep(5)  # the first heartbeats are on their way
    command.kill()
    others["halted"].send_signal(signal.SIGSTOP)
    until(lambda: states().get(killed) == states().get("halted") == "CRASHED")
    time.sleep(PATIENCE)  # by now the two others would have
    assert [states()[name] for name in ("living", "of others")] == ["RUNNING", "RUNNING"]
    others["halted"].send_signal(signal.SIGCONT)
    (tmp_path / "end").touch()
    assert [process.wait(60) for process in others.values()] == [0, 0, 0]
    assert [states()[name] for name in others] == ["COMPLETED"] * 3  # who was taken for dead, and was not, too


def test_there_is_one_automation_however_often_it_is_made(watch: Callable[[float], None]) -> None:
    found = []
    for patience in (90, 90, 40):
        watch(patience)
        found.append(automations())
    assert [len(each) for each in found] == [1, 1, 1]
    assert found[0] == found[1]
    assert found[2] == [(found[0][0][0], timedelta(seconds=40))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_of_a_work_pool_send_heartbeats_and_are_watched(
    watch: Callable[[float], None], start: Start, plan_file: PlanFile, tmp_path: Path
) -> None:
    for arguments in (("work-pool", "create", "adcore", "--type", "process"), ("--no-prompt", "deploy", "--all")):
        done = start("-m", "prefect", *arguments)
        out, err = done.communicate(timeout=200)
        assert done.returncode == 0, out + err
    parameters = {"plan": str(plan_file(methods=LONG)), "workspace": str(tmp_path / "work")}
    with get_client(sync_client=True) as client:
        assert [patience for _, patience in automations()] == [timedelta(seconds=90)]
        deployment = client.read_deployment_by_name("benchmark/demo")
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    worker = psutil.Process(start("-m", "prefect", "worker", "start", "--pool", "adcore").pid)
    until(lambda: states().get(run.name) == "RUNNING")
    computing = worker.children(recursive=True)
    told = {each.environ().get("PREFECT_FLOWS_HEARTBEAT_FREQUENCY") for each in computing}
    for each in (worker, *computing):
        each.kill()
    assert run.tags == [_heartbeat.TAG]
    assert told == {str(_heartbeat.SECONDS)}


def test_every_deployment_of_a_work_pool_has_tag_and_frequency() -> None:
    given = yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]
    assert given and all(each["tags"] == [_heartbeat.TAG] for each in given)
    variables = [each["work_pool"]["job_variables"]["env"] for each in given]
    retries = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": _start.ENVIRONMENT["PREFECT_CLIENT_RETRY_EXTRA_CODES"]}
    wanted = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(_heartbeat.SECONDS), **retries}
    assert all(each == wanted for each in variables)


def test_only_the_flow_run_has_the_tag() -> None:
    @task
    def inner() -> set[str]:
        return set(TaskRunContext.get().task_run.tags)  # type: ignore[union-attr]

    @flow
    @_heartbeat.untagged
    def outer(number: int = 3) -> tuple[int, set[str], set[str]]:
        return number, set(FlowRunContext.get().flow_run.tags), inner()  # type: ignore[union-attr]

    with _heartbeat.sent():
        assert outer(number="4") == (4, {_heartbeat.TAG}, set())  # type: ignore[call-overload]
