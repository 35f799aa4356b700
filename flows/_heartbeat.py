"""What ends the flow runs of processes that were killed, which Prefect by itself lists as running for ever.

A flow run that carries TAG tells the server each SECONDS that it is there. An automation of the server, once it has
heard a run, marks it as crashed when nothing is heard of it any more. Only runs with the tag are looked at, because
Prefect's other flows send a heartbeat each three minutes and would be taken for dead.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import ParamSpec, TypeVar

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import TagsContext
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

SECONDS = 30  # the least that Prefect takes
TAG = f"heartbeat-{SECONDS}s"
P = ParamSpec("P")
T = TypeVar("T")
NAME = "adcore: crashed, since its heartbeats have ended"


@contextlib.contextmanager
def sent() -> Iterator[None]:
    """Flow runs of this process within the block, and of processes that it starts, send heartbeats; those of this one
    carry the tag, too."""
    with tags(TAG), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: SECONDS}):
        yield


def untagged(flow: Callable[P, T]) -> Callable[P, T]:
    """The function of a flow whose tags are not those of its tasks: for each tag Prefect's client asks the server for a
    slot before each task, and fails that at once where the server has an error."""

    @functools.wraps(flow)
    def run(*arguments: P.args, **named: P.kwargs) -> T:
        with TagsContext(current_tags=set()):
            return flow(*arguments, **named)

    # Prefect would look for the names of its types here.
    run.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return run


def watch(patience: float = 3 * SECONDS) -> None:
    """Have the server that is configured mark tagged flow runs as crashed of which it has heard nothing for `patience`
    seconds. Where the automation is there already, it is only brought up to date."""
    wanted = _automation(timedelta(seconds=patience))
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(NAME)
        if not there:
            client.create_automation(wanted)
        elif AutomationCore.model_validate(there[0].model_dump(exclude={"id"})) != wanted:
            client.update_automation(there[0].id, wanted)  # it then forgets what it has heard


def _automation(patience: timedelta) -> AutomationCore:
    heartbeat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
        for_each={"prefect.resource.id"},
        after={heartbeat},
        expect={heartbeat, *ends},
        posture=Posture.Proactive,
        threshold=1,
        within=patience,
    )
    message = f"nothing was heard of it for {patience.seconds} s: its process was killed, or lost the server"
    return AutomationCore(
        name=NAME,
        description=f"Marks flow runs with the tag {TAG} that are dead (flows/_heartbeat.py).",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )
