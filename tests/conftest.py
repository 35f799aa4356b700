"""A tiny dataset in the layout of MVTec AD, a tiny plan over it, and one workspace where it is prepared."""

from __future__ import annotations

import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch or numba is imported; tiny inputs gain nothing from more
os.environ.pop("ADCORE_STORE", None)  # of who runs the tests
os.environ.setdefault("NUMBA_CACHE_DIR", "")  # beside the sources, not in each workspace: kernels are compiled once
os.environ.pop("MLFLOW_TRACKING_URI", None)  # runs of tests go nowhere else

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcore.core import digests
from adcore.core.plan import Plan, parse
from adcore.engine import bench

SIDE, DEFECT = 64, 14


def picture(rng: np.random.Generator, tint: int, defective: bool) -> tuple[np.ndarray, np.ndarray]:
    """A random texture, and on it a bright square: the image (64, 64, 3) and the mask (64, 64), uint8."""
    coarse = rng.integers(60, 140, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    image = coarse + rng.integers(0, 20, (SIDE, SIDE, 3))
    image[..., 0] += tint
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if defective:
        top, left = rng.integers(4, SIDE - DEFECT - 4, 2)
        mask[top : top + DEFECT, left : left + DEFECT] = 255
        image[mask > 0] = 250
    return image.clip(0, 255).astype(np.uint8), mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_parts(root: Path, categories: Sequence[str] = ("bolt", "cloth")) -> Path:
    """Categories, each 6 training, 3 good and 3 defective test images, and their masks."""
    for number, category in enumerate(categories):
        rng = np.random.default_rng(number)
        for split, defect, count in (("train", "good", 6), ("test", "good", 3), ("test", "square", 3)):
            for index in range(count):
                image, mask = picture(rng, 40 * number, defect != "good")
                save(root / category / split / defect / f"{index:03d}.png", image)
                if defect != "good":
                    save(root / category / "ground_truth" / defect / f"{index:03d}_mask.png", mask)
    return root


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the tiny dataset; not to be written to."""
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def own_parts(tmp_path: Path) -> Path:
    """A tiny dataset that a test may damage."""
    return make_parts(tmp_path / "parts")


@pytest.fixture(scope="session")
def plan(parts: Path) -> Callable[..., Plan]:
    """A plan over the tiny dataset: an 18-layer ResNet with random weights at 64 pixels; keywords replace its parts."""

    def make(**changes: Any) -> Plan:
        content: dict[str, Any] = {
            "image": {"resize": 64},
            "backbone": {"name": "resnet18", "weights": "random"},
            "datasets": [{"name": "parts", "kind": "folder", "root": str(parts)}],
            "methods": ["padim", {"name": "patchcore", "coreset": 0.5}],
            "device": "cpu",
        }
        return parse(content | changes)

    return make


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings write a checkpoint after every epoch, however short it was."""
    from adcore.core import training

    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace shared by the tests that only add to it; `prepared` reads the dataset into it once."""
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="session")
def prepared(plan: Callable[..., Plan], workspace: Path) -> bench.Bench:
    """The tiny plan in that workspace, its dataset read and validated."""
    made = plan()
    layout = bench.Layout(workspace)
    return bench.Bench(made, workspace, {spec.name: bench.prepare(spec, layout) for spec in made.datasets})


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket on it, with credentials in the environment."""
    import boto3

    given = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_ACCESS_KEY_ID": "testing-id", "AWS_SECRET_ACCESS_KEY": "testing-key"}
    for name, value in {**given, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(autouse=True)
def code_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests change code, or what is read of it, and so take no digest from an earlier one."""
    monkeypatch.setattr(digests, "_folder", None)


@pytest.fixture(scope="session", autouse=True)
def not_busy() -> Iterator[None]:
    """A machine that does other work beside the tests is no busy one: most of them want a latency, and no true one."""
    from adcore.core import hardware

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "MOST_WAIT", math.inf)
        yield
