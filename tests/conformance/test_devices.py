"""Every registered method and enhancer on a device that is not the host's: nothing meets across, nothing is pinned or
turned into an array there. No GPU is needed. A new file is tested without a line being added."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from adcore.core.contracts import ImageMethod
from adcore.core.plan import Plan
from adcore.engine import bench, efficiency, latency
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import Held, HeldImages
from tests.conformance import test_enhancers, test_protocols
from tests.conformance.accelerator import DEVICE, Accelerator, Remote, accelerator
from tests.conformance.test_protocols import silent

METHODS, ENHANCERS = test_protocols.METHODS, test_enhancers.ENHANCERS
TINY = {"name": "test_efficientnet", "weights": "random"}

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast says so, and does nothing

Opened = Callable[..., Bench]


def short(name: str) -> dict[str, object]:
    """A method or enhancer with little to do."""
    kind = test_protocols if name in METHODS else test_enhancers
    return kind.short(name)


@pytest.fixture
def device() -> Iterator[Accelerator]:
    with accelerator() as found:
        yield found


@pytest.fixture(scope="module")
def opened(plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """opened(**parts of the plan): a bench over the tiny set on the device, in one workspace."""
    workspace = tmp_path_factory.mktemp("devices")

    def make(**parts: object) -> Bench:
        made = plan(device="cuda", **{"backbone": TINY, **parts})
        return Bench(made, workspace, {"parts": bench.prepare(made.datasets[0], bench.Layout(workspace))})

    return make


def scored(opened: Bench, cell: Cell) -> np.ndarray:
    """Fit, restore, score: the maps."""
    for link in cell.links:
        opened.computer.enhance(cell, link.key, silent)
    opened.computer.fit(cell, silent)
    opened.computer.score(cell, silent)
    return np.load(opened.store.path("maps", cell.maps_key) / "maps.npy")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_fitted_restored_scored_and_timed(
    name: str, device: Accelerator, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    found = opened(methods=[short(name)])
    cell = found.cells[0]
    assert np.isfinite(scored(found, cell)).all()
    assert DEVICE in {tensor.device for tensor in found.computer._fitted(cell).method.state().values()}
    found.computer.latency(cell, None)


@pytest.mark.parametrize("name", ["agpnet", "tfa_net"])
def test_a_network_is_counted_and_its_throughput_taken(
    name: str, device: Accelerator, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0.0)
    found = opened(methods=[short(name)])
    row = efficiency.measure(found.plan, found.cells[0].contender)
    assert row["images_per_s_b32"] > 0


OTHER_WAYS: dict[str, tuple[dict[str, object], str]] = {  # through a method's code: its options, the backbone
    "attention of a transformer": ({"name": "agpnet"}, "test_vit"),
    "column means of it alone": ({"name": "agpnet", "mask": "L", "attention": "column"}, "test_vit"),
    "k-means": ({"name": "cfa", "gamma_c": 4, "train_radius": False}, "test_efficientnet"),
    "the epoch that is best on test images": ({"name": "cfa", "selection": "best_test"}, "test_efficientnet"),
    "the official embedding": ({"name": "patchcore", "embed": "pool1024"}, "test_efficientnet"),
    "noise with a floor, relative to the features": (
        {"name": "agpnet", "noise_floor": 0.5, "noise_factor": 1.0},
        "test_efficientnet",
    ),
    "patterns of noise, and a head for the image": ({"name": "simplenet", "supersimple": True}, "test_efficientnet"),
    "as many channels as principal components": ({"name": "dfr", "latent": None}, "test_efficientnet"),
    "standardised channels": ({"name": "tfa_net", "standardise": True}, "test_efficientnet"),
    "a template that is not normalised": ({"name": "tfa_net", "template_raw": True}, "test_efficientnet"),
    "the medoid, and hidden rows": (
        {"name": "tfa_net", "template": "medoid", "masking": "complementary"},
        "test_efficientnet",
    ),
}


@pytest.mark.parametrize("way", sorted(OTHER_WAYS))
def test_other_ways_through_a_method(way: str, device: Accelerator, opened: Opened) -> None:
    options, backbone = OTHER_WAYS[way]
    method = short(str(options["name"])) | options
    found = opened(methods=[method], backbone={"name": backbone, "weights": "random"})
    assert np.isfinite(scored(found, found.cells[0])).all()


@pytest.mark.parametrize("name", ENHANCERS)
def test_an_enhancer_is_trained_and_applied(name: str, device: Accelerator, opened: Opened) -> None:
    found = opened(methods=["padim"], enhancers=[short(name)])
    cell = found.cells[0]
    assert np.isfinite(scored(found, cell)).all()
    extractor = found.computer.bank.extractor(found.computer._extraction(cell, cell.levels))
    modules = (extractor.model, extractor.added)
    assert {tensor.device for module in modules for tensor in module.state_dict().values()} == {DEVICE}
    assert {maps.device for maps in extractor(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))} == {DEVICE}


@pytest.mark.parametrize("where", ["host", "device"])
def test_an_extractor_takes_images_from_either_place(
    where: str, device: Accelerator, plan: Callable[..., Plan]
) -> None:

    made = plan()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    near, far = (Extractor(Extraction(made.backbone, made.image, (1, 2)), name) for name in ("cpu", "cuda"))
    maps = far(images if where == "host" else images.to("cuda"))
    assert all(isinstance(found, Remote) for found in maps)
    for expected, found in zip(near(images), maps, strict=True):
        torch.testing.assert_close(expected, found.cpu())


REFUSED: dict[str, Callable[[torch.Tensor], object]] = {
    "an array": lambda x: x.numpy(),
    "an array of numpy's": lambda x: np.asarray(x),
    "pinning": lambda x: x.pin_memory(),
    "a sum across": lambda x: x + torch.ones(3),
    "a product across": lambda x: torch.nn.Linear(3, 3)(x),
    "a stack with a CPU scalar": lambda x: torch.stack([x.sum(), torch.zeros(())]),
    "a place in host memory by an index on the device": lambda x: torch.ones(3)[x.long()],
    "values of the host at an index": lambda x: x.__setitem__([0, 2], torch.ones(2)),
    "random numbers of a CPU generator": lambda x: x.uniform_(generator=torch.Generator()),
    "new random numbers of a CPU generator": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cuda_refuses_is_refused(name: str, device: Accelerator) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"cuda|cpu"):
        REFUSED[name](torch.zeros(3, device="cuda"))


def test_what_cuda_allows_is_allowed(device: Accelerator) -> None:
    far = torch.arange(3.0, device="cuda")
    assert torch.equal((far + torch.ones(())).cpu(), torch.tensor([1.0, 2, 3]))
    assert torch.equal(far[torch.tensor([2, 0])].cpu(), torch.tensor([2.0, 0]))
    far[1:] = torch.zeros(2)
    assert float(far.sum()) == 0
    assert device.waits == ["cpu", "cpu", "__float__"]


@pytest.mark.parametrize("name", ["agpnet", "cfa", "dfr", "simplenet", "tfa_net"])
def test_no_step_of_a_training_waits_for_the_device(name: str, device: Accelerator, opened: Opened) -> None:
    """Three times the steps of an epoch wait as often: for the features at the start, and for its means at the end."""
    found = opened(methods=[short(name)])
    cell = found.cells[0]
    extractor = found.computer.bank.extractor(found.computer._extraction(cell, cell.levels))
    waits = []
    for count in (4, 12):
        images = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8).to("cuda")
        method = found.computer._method(cell)
        source = HeldImages(images) if isinstance(method, ImageMethod) else Held(extractor(images))
        context = dataclasses.replace(method.context, by_path=None, checkpoint=None)
        device.waits.clear()
        type(method)(method.options, context).fit(source)
        waits.append(list(device.waits))
    assert waits[0] == waits[1]
