"""Where the groups of a plan are computed and kept: threads and folders of this machine, or a Ray cluster, a store
behind a URL and an MLflow server. It belongs to the machines, never to the plan: keys and params.yaml stay as they are
(docs/cluster.md)."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adcore.core import plan_file
from adcore.core.plan import PlanError, expanded, explain
from adcore.core.remote import VARIABLE
from flows import _start

if TYPE_CHECKING:
    Runner = TaskRunner[PrefectFuture[Any]]

PATIENCE = 5.0  # seconds that a head node has to answer
NODE_ID = "ray.io/node-id"  # the label by which Ray knows a node
CLIENT = "ray://"  # before the address of Ray's client server, port 10001; without it that of the head node, port 6379
SENT = ("AWS_", "AZURE_", "GOOGLE_", "GOMP_", VARIABLE)  # variables that begin so go to the nodes with the work


class Resources(BaseModel):
    """What Ray reserves for a group on a node; `resources` are its custom ones, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    num_cpus: float = Field(1, gt=0)
    num_gpus: float = Field(0, ge=0)
    resources: dict[str, float] = {}


class Cluster(BaseModel):
    """cluster.yaml. ray: HOST:PORT of the head node, or ray://HOST:PORT of its client server; without it threads here
    compute. store: the URL of the store that all nodes share. mlflow: a tracking server. options: for each group.
    latency: where latencies are measured, so that they compare; without it each where its group is computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ray: str | None = None
    store: str | None = None
    mlflow: str | None = None
    options: Resources = Resources()
    latency: Resources | None = None

    @field_validator("ray")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None and not (_place(address).hostname and _port(address)):
            raise ValueError(f"'{address}' is no HOST:PORT, such as 10.0.0.1:6379, nor ray://HOST:PORT")
        return address

    @classmethod
    def load(cls, file: str = "", ray: str = "", store: str = "") -> Cluster:
        """What a file says, changed by what is given beside it. Raises PlanError with one clause a mistake."""
        content: Any = {}
        if file:
            try:
                content = plan_file.read(expanded(file))
            except ValueError as error:
                raise PlanError(str(error)) from None
            content = {} if content is None else content
            if not isinstance(content, dict):
                raise PlanError(f"{file}: a cluster is a mapping with keys {', '.join(cls.model_fields)}")
        given = {name: value for name, value in (("ray", ray), ("store", store)) if value}
        try:
            return cls.model_validate(content | given)
        except ValidationError as error:
            raise PlanError(f"{file or 'cluster'}: {explain(error, cls)}") from None

    def settle(self) -> None:
        """Tell this process, and what it starts, of store and tracking server."""
        for name, value in ((VARIABLE, self.store), ("MLFLOW_TRACKING_URI", self.mlflow)):
            if value:
                os.environ[name] = value

    def check(self) -> None:
        """Raise ServerError, within seconds, where a cluster cannot be used."""
        if self.ray is None:
            return
        if importlib.util.find_spec("prefect_ray") is None:
            raise _start.ServerError("a cluster takes Ray, which is not installed: pip install 'adcore[ray]'")
        place = _place(self.ray)
        try:
            socket.create_connection((str(place.hostname), _port(self.ray)), PATIENCE).close()
        except OSError as error:
            reason = error.strerror or str(error)
            mend = "start it with `ray start --head`, or correct the address"
            raise _start.ServerError(f"nothing answers at {self.ray} as Ray's head node: {reason}; {mend}") from None
        if not self.store and not os.environ.get(VARIABLE):
            mend = "give `store`, such as s3://BUCKET/adcore"
            raise _start.ServerError(f"the nodes of a cluster have to share what they compute; {mend}")
        if not is_loopback(self.ray) and is_loopback(os.environ.get("PREFECT_API_URL", "127.0.0.1")):
            mend = "set PREFECT_API_URL to one that the nodes reach, too"
            raise _start.ServerError(f"the nodes of {self.ray} report to a Prefect server; {mend}")

    def runner(self) -> Runner:
        """What groups are submitted to, a context. Threads take one group at a time: torch uses all cores within a
        step."""
        if self.ray is None:
            return cast("Runner", ThreadPoolTaskRunner(max_workers=1))
        from prefect_ray import RayTaskRunner

        sent = {name: value for name, value in os.environ.items() if name.startswith(SENT)}
        start = {"runtime_env": {"env_vars": sent}, "log_to_driver": False, "configure_logging": False}
        return cast("Runner", RayTaskRunner(address=self.ray, init_kwargs=start))

    def reserved(self, timing: bool, without: Collection[str] = ()) -> AbstractContextManager[object]:
        """Within it, what is submitted reserves the options of a group, or where it is `timing` of a latency, on a node
        that is not among these ids."""
        if self.ray is None:
            return nullcontext()
        from prefect_ray.context import remote_options

        place = {"label_selector": {NODE_ID: f"!in({','.join(sorted(without))})"}} if without else {}
        reserved: AbstractContextManager[object] = remote_options(**self.resources(timing).model_dump(), **place)
        return reserved

    def has_node(self, timing: bool, without: Collection[str] = ()) -> bool:
        """Whether a node of the cluster, within `runner`, can give what is reserved, beside these ids."""
        if self.ray is None:
            return False
        import ray

        resources = self.resources(timing)
        wanted = {"CPU": resources.num_cpus, "GPU": resources.num_gpus, **resources.resources}
        return any(
            node["Alive"]
            and node["NodeID"] not in without
            and all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items())
            for node in ray.nodes()
        )

    def resources(self, timing: bool) -> Resources:
        """What a group reserves, or where it is `timing` of a latency, that."""
        return self.latency if timing and self.latency else self.options


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address or URL."""
    host = str(urlsplit(address).hostname if "//" in address else _place(address).hostname)
    return host == "localhost" or host.startswith("127.")


def _place(address: str) -> Any:
    return urlsplit(address if address.startswith(CLIENT) else f"{CLIENT}{address}")


def _port(address: str) -> int:
    """0 where there is none."""
    try:
        return int(_place(address).port or 0)
    except ValueError:
        return 0
