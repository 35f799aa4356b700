"""Which machines compute: what cluster.yaml may say, and what is told where it cannot be used."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adcore.core.plan import PlanError
from flows._cluster import Cluster, Resources
from flows._start import ServerError

REPO = Path(__file__).parents[2]
WHOLE = """
ray: 10.0.0.1:6379
store: s3://team/adcore
mlflow: http://10.0.0.1:5000
options: {num_gpus: 1, num_cpus: 4, resources: {bench: 1}}
latency: {num_gpus: 1, resources: {quiet: 1}}
"""


@pytest.fixture
def cluster_file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "cluster.yaml").write_text(text)
        return str(tmp_path / "cluster.yaml")

    return write


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that listens, with Ray installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("ADCORE_STORE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_file_says_which_machines(cluster_file: Callable[[str], str]) -> None:
    options = Resources(num_gpus=1, num_cpus=4, resources={"bench": 1})
    expected = Cluster(ray="10.0.0.1:6379", store="s3://team/adcore", mlflow="http://10.0.0.1:5000", options=options)
    pinned = Resources(num_gpus=1, resources={"quiet": 1})
    expected = expected.model_copy(update={"latency": pinned})
    assert Cluster.load(cluster_file(WHOLE)) == expected


def test_what_is_given_beside_the_file_wins(cluster_file: Callable[[str], str]) -> None:
    found = Cluster.load(cluster_file(WHOLE), ray="ray://b:10001", store="file:///shared")
    assert (found.ray, found.store, found.mlflow) == ("ray://b:10001", "file:///shared", "http://10.0.0.1:5000")


def test_without_anything_threads_of_this_machine_compute() -> None:
    assert type(Cluster.load().runner()).__name__ == "ThreadPoolTaskRunner"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rai: a:1", r"cluster.yaml: unknown key 'rai' \(did you mean 'ray'\?\)"),
        ("ray: here", "cluster.yaml: ray: 'here' is no HOST:PORT, such as 10.0.0.1:6379"),
        ("ray: a:b", "cluster.yaml: ray: 'a:b' is no HOST:PORT"),
        ("options: {num_cpu: 1}", r"unknown key 'options.num_cpu' \(did you mean 'num_cpus'\?\)"),
        ("options: {num_cpus: 0}", "options.num_cpus: Input should be greater than 0"),
        ("- a", "a cluster is a mapping with keys ray, store, mlflow, options, latency"),
    ],
)
def test_a_mistake_is_named_with_its_key(cluster_file: Callable[[str], str], text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Cluster.load(cluster_file(text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nothing\.yaml"):
        Cluster.load(str(tmp_path / "nothing.yaml"))


def test_children_are_told_of_store_and_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADCORE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "before")
    Cluster(store="file:///shared", mlflow="http://a:5000").settle()
    assert (os.environ["ADCORE_STORE"], os.environ["MLFLOW_TRACKING_URI"]) == ("file:///shared", "http://a:5000")


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"pip install 'adcore\[ray\]'"):
        Cluster(ray="127.0.0.1:1").check()


def test_an_address_that_nobody_answers_is_told(head: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with pytest.raises(ServerError, match=f"nothing answers at 127.0.0.1:{closed} as Ray's head node"):
        Cluster(ray=f"127.0.0.1:{closed}", store="file:///shared").check()


def test_nodes_without_a_store_in_common_are_refused(head: str) -> None:
    with pytest.raises(ServerError, match="have to share what they compute; give `store`"):
        Cluster(ray=head).check()


def test_nodes_elsewhere_need_a_prefect_server_that_they_reach(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: socket.socket())
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(ServerError, match="set PREFECT_API_URL to one that the nodes reach"):
        Cluster(ray="10.0.0.1:6379", store="s3://a/b").check()


def test_a_cluster_that_answers_is_taken(head: str) -> None:
    Cluster(ray=head, store="file:///shared").check()


def test_the_store_beside_a_file_is_that_of_the_run(
    cluster_file: Callable[[str], str], plan_file: Callable[..., Path], work: Path, tmp_path: Path
) -> None:
    """Whatever the file says; and a cluster that cannot be used ends with code 2."""
    (tmp_path / "shared").mkdir()
    file = cluster_file(f"ray: 127.0.0.1:1\nstore: file://{tmp_path}/nowhere\n")
    own = [
        "--plan",
        str(plan_file()),
        "--workspace",
        str(work),
        "--cluster",
        file,
        "--store",
        f"file://{tmp_path}/shared",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "flows.benchmark", *own], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "nowhere" not in done.stderr
    assert "Ray" in done.stderr  # not installed, or nothing answers
