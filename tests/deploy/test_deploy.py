"""What deploy/ says agrees with itself and with the repository. Docker is not asked: no container is started."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.compose import DEPLOY, VARIABLE, example, interpolated

REPO = DEPLOY.parent
FILES = ("compose.yaml", "compose.gpu.yaml")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "RAY_TOKEN", "S3_ACCESS_KEY", "S3_SECRET_KEY")
FILLED = example() | dict.fromkeys(SECRETS, "0123abcd")
COMPOSE: dict[str, Any] = yaml.safe_load(interpolated((DEPLOY / "compose.yaml").read_text(), FILLED))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def argument(name: str) -> str:
    """The default of a build argument."""
    found = re.search(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert found
    return found[1]


def named(kind: str) -> set[str]:
    """The sources of that kind that services name; of volumes those that are no path."""
    sources = set()
    for service in SERVICES.values():
        for each in service.get(kind, []):
            source = each["source"] if isinstance(each, dict) else each.split(":")[0]
            sources |= set() if source.startswith((".", "/")) else {source}
    return sources


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_as_the_compose_specification_wants_it(name: str) -> None:
    content = yaml.safe_load(interpolated((DEPLOY / name).read_text(), FILLED))  # it knows no merge keys
    assert set(PyCompose.from_json(json.dumps(content)).service_names()) <= SERVICES.keys()
    content["services"]["worker"]["comand"] = ["b"]
    with pytest.raises(ValueError, match="comand"):  # so a slip would be told
        PyCompose.from_json(json.dumps(content))


def test_variables_are_those_of_the_example() -> None:
    texts = "".join((DEPLOY / name).read_text() for name in FILES)
    from_environment = {each["environment"] for each in COMPOSE["secrets"].values()}
    assert {found[0] for found in VARIABLE.findall(texts)} | from_environment == example().keys()


@pytest.mark.parametrize("name", sorted({*SECRETS} - {"RAY_TOKEN"}))
def test_no_password_has_a_default(name: str) -> None:
    assert example()[name] == ""
    with pytest.raises(KeyError, match=r"see env\.example"):
        interpolated((DEPLOY / "compose.yaml").read_text(), FILLED | {name: ""})


def test_passwords_are_not_for_git_nor_for_the_image() -> None:
    done = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=REPO, check=False)
    assert done.returncode == 0
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert [line for line in ignored if line.startswith("!") and ("env" in line or line == "!deploy")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_those_that_say_when_they_are_well(name: str) -> None:
    waited = SERVICES[name].get("depends_on", {})
    assert {each["condition"] for each in waited.values()} <= {"service_healthy"}
    assert all("test" in SERVICES[other]["healthcheck"] for other in waited)
    assert "healthcheck" in SERVICES[name]


@pytest.mark.parametrize("kind", ["volumes", "secrets", "configs"])
def test_what_services_name_is_defined_and_the_other_way_round(kind: str) -> None:
    assert named(kind) == COMPOSE[kind].keys()


def test_every_image_is_of_one_version() -> None:
    tags = {service["image"].rpartition(":")[2] for service in SERVICES.values()}
    bases = [argument("BASE").rpartition(":")[2]]
    assert [tag for tag in (*tags, *bases) if not re.match(r"\d+\.\d+", tag)] == []
    assert {service["image"] for service in OURS.values()} == {f"adcore:{PROJECT['version']}"}


def test_only_this_machine_sees_the_pages() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:4200:4200", "127.0.0.1:5000:5000"]


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_of_a_package_that_the_image_has(name: str) -> None:
    extras = PROJECT["optional-dependencies"]
    taken = argument("EXTRAS").split(",")
    packages = [*PROJECT["dependencies"], *(each for extra in taken for each in extras[extra])]
    known = {re.split(r"[\[<>=]", each)[0] for each in packages} | PROJECT["scripts"].keys()
    command = SERVICES[name]["command"]
    programs = [command[0]]
    if command[0] == "bash":
        programs = [line.removeprefix("exec ").split()[0] for line in command[-1].splitlines()]
    assert set(programs) <= known


def test_files_that_are_mounted_are_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert [name for name in mounted if name.startswith("./") and name != example()["DATASETS"]] == ["./databases.sql"]
    assert (DEPLOY / "databases.sql").exists()


def test_the_two_databases_are_made() -> None:
    made = re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "databases.sql").read_text())
    urls = re.findall(r"@postgres:5432/(\w+)", json.dumps(SERVICES))
    assert sorted(made) == sorted(urls) == ["mlflow", "prefect"]


def test_the_cluster_of_the_driver_is_one_that_adcore_takes(tmp_path: Path) -> None:
    from flows._cluster import Cluster

    (tmp_path / "cluster.yaml").write_text(COMPOSE["configs"]["cluster"]["content"])
    found = Cluster.load(str(tmp_path / "cluster.yaml"))
    assert (found.ray, found.store, found.options.num_cpus) == ("head:6379", "s3://adcore/store", 2)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_copies_is_there_and_let_through() -> None:
    through = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert [name for name in through if not (REPO / name).exists()] == []
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert copied[-1] == "."
    assert set(copied[0].split()) <= set(through)
    assert {"adcore", "flows", "tasks", "suites", "published"} <= set(through)


def test_the_image_is_nobody_s_that_matters() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["${UID}"]
    assert int(argument("UID")) > 1000


def test_deployments_of_the_driver_are_those_of_the_checkout() -> None:
    here, there = (yaml.safe_load(path.read_text()) for path in (DEPLOY / "prefect.yaml", REPO / "prefect.yaml"))
    kept = ("entrypoint", "tags", "work_pool")
    assert [[each[key] for key in kept] for each in here["deployments"]] == [
        [each[key] for key in kept] for each in there["deployments"]
    ]
    assert here["build"] == there["build"]
    (step,) = here["pull"][0].values()
    assert f"WORKDIR {step['directory']}\n" in DOCKERFILE
