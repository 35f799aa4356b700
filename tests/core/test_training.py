"""The trainer: the same weights for the same seed, and after a kill those of a run left alone."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from adcore.core import training as training_module
from adcore.core.contracts import Curves
from adcore.core.training import LOOK, WARM_UP, Training, taken_first_step
from tests.conformance.accelerator import accelerator


class Killed(Exception):
    pass


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def first(model: nn.Sequential) -> torch.Tensor:
    """The weights of its first layer."""
    return model.get_parameter("0.weight")


def run(model: nn.Module, training: Training, epochs: int = 5, die_in: int | None = None, sgd: bool = False) -> Curves:
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) if sgd else torch.optim.AdamW(model.parameters())
    generator = torch.Generator()

    def batches(epoch: int):
        if epoch == die_in:
            raise Killed
        generator.manual_seed(epoch)
        for _ in range(3):
            inputs = torch.randn(6, 4, generator=generator)
            yield inputs, inputs.sum(1, keepdim=True)

    def step(batch):
        inputs, wanted = batch
        error = (model(inputs) - wanted).square().mean()
        return error, {"double": 2 * error}

    return training.run("net", {"net": model}, optimiser, epochs, batches, step, 3, lambda epoch: 0.1 if epoch else 1.0)


def kept(checkpoint: Path) -> int:
    """The epochs whose end a checkpoint holds; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        return json.loads(file.metadata()["progress"])["epochs"]


def seen_at_each_epoch(checkpoint: Path, seconds: float) -> list[int]:
    """What the checkpoint held at the start of each of four epochs of that length, and at the end."""
    model, seen = net(), []

    def batches(epoch: int):
        seen.append(kept(checkpoint))
        time.sleep(seconds)
        yield torch.ones(6, 4)

    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    run = Training(0, checkpoint=checkpoint).run
    run("net", {"net": model}, optimiser, 4, batches, lambda batch: (model(batch).square().mean(), {}), 1)
    return [*seen, kept(checkpoint)]


def test_a_checkpoint_is_written_by_time_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert training_module.CHECKPOINT_S >= 60
    assert seen_at_each_epoch(tmp_path / "short", 0.0) == [0, 0, 0, 0, 4]
    monkeypatch.setattr(training_module, "CHECKPOINT_S", 0.3)
    assert seen_at_each_epoch(tmp_path / "long", 0.31) == [0, 1, 2, 3, 4]
    assert seen_at_each_epoch(tmp_path / "half", 0.2)[:3] in ([0, 0, 2], [0, 1, 1], [0, 1, 2])  # a slow machine


def test_an_accelerator_is_waited_for_by_looks_at_the_loss_alone():
    """Nothing that a step logs makes the host wait."""
    with accelerator() as device, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available")
        model = net().to("cuda")
        optimiser = torch.optim.SGD(model.parameters(), 0.01)

        def step(batch: torch.Tensor):
            error = model(batch).square().mean()
            return error, {"double": 2 * error, "number": 1.0}

        batches = [torch.ones(6, 4, device="cuda")] * (2 * LOOK)
        device.waits.clear()
        curves = Training(0, "cuda").run("net", {"net": model}, optimiser, 1, lambda _: batches, step, len(batches))
    assert device.waits == ["tolist", "tolist", "__float__", "__float__"]  # two looks; loss and double
    assert curves["double"][0] == pytest.approx(2 * curves["loss"][0])


@pytest.mark.parametrize("bad", [5, LOOK, LOOK + 3])
def test_an_accelerator_names_the_first_step_whose_loss_is_not_finite(bad: int):
    with accelerator(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available")
        weight = nn.Parameter(torch.ones(1, device="cuda"))
        count = iter(range(1, 100))

        def step(batch: None):
            return weight.sum() * (float("inf") if next(count) >= bad else 1), {}

        place = rf"net: the loss is inf in epoch 1 of 1, step {bad} of {2 * LOOK}"
        with pytest.raises(RuntimeError, match=place):
            Training(0, "cuda").run(
                "net", {}, torch.optim.SGD([weight], 0.0), 1, lambda _: [None] * (2 * LOOK), step, 2 * LOOK
            )


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("sgd", [True, False])
@pytest.mark.parametrize("die_in", [1, 4])
def test_a_killed_run_ends_with_the_weights_and_curves_of_one_left_alone(tmp_path: Path, die_in: int, sgd: bool):
    alone, killed, again = net(), net(), net(seed=7)
    curves = run(alone, Training(3), sgd=sgd)
    training = Training(3, checkpoint=tmp_path / "deep" / "state")
    with pytest.raises(Killed):
        run(killed, training, die_in=die_in, sgd=sgd)
    assert run(again, training, sgd=sgd) == curves
    for name, value in alone.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    done = net(seed=9)
    assert run(done, training, die_in=0, sgd=sgd) == curves  # nothing is left to do
    assert torch.equal(first(done), first(alone))


def test_a_cut_off_checkpoint_is_not_read(tmp_path: Path):
    training = Training(3, checkpoint=tmp_path / "state")
    (tmp_path / "state.part").write_bytes(b"half of one")
    model, other = net(), net()
    assert run(model, training) == run(other, Training(3))


@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_a_damaged_checkpoint_is_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, damage: str
):
    monkeypatch.setattr(training_module, "CHECKPOINT_S", 0)
    training = Training(3, checkpoint=tmp_path / "state")
    with pytest.raises(Killed):
        run(net(), training, die_in=4)
    content = (tmp_path / "state").read_bytes()
    damaged = {"cut": content[: len(content) // 2], "header": b"{" * 64 + content[64:], "empty": b""}
    (tmp_path / "state").write_bytes(damaged[damage])
    model, other = net(), net()
    assert run(model, training) == run(other, Training(3))
    assert torch.equal(first(model), first(other))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'state'} is damaged (")


def test_seed_decides_the_dropout_and_the_global_generator_is_left_alone():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    models = [net(), net(), net()]
    torch.random.set_rng_state(before)
    for model, seed in zip(models, (0, 0, 1), strict=True):
        run(model, Training(seed))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first(models[0]), first(models[1]))
    assert not torch.equal(first(models[0]), first(models[2]))


def test_curves_are_means_over_the_epoch_and_progress_is_told():
    told: list[float] = []
    curves = run(net(), Training(0, progress=told.append), epochs=2)
    assert [len(values) for values in curves.values()] == [2, 2]
    assert curves["double"] == pytest.approx([2 * value for value in curves["loss"]])
    assert told == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    parts: list[float] = []
    run(net(), Training(0, progress=parts.append).part("late", 0.5, 1), epochs=1)
    assert parts == pytest.approx([2 / 3, 5 / 6, 1])


def test_a_parameter_is_logged_as_each_step_left_it():
    """The optimiser changes it in place."""
    weight = nn.Parameter(torch.ones(1))
    step = lambda batch: (weight.sum(), {"weight": weight})  # noqa: E731
    curves = Training(0).run("line", {}, torch.optim.SGD([weight], 0.5), 1, lambda _: [None] * 3, step, 3)
    assert curves["weight"] == pytest.approx([(0.5 + 0 - 0.5) / 3])


def test_a_loss_that_is_not_finite_names_the_step():
    model = net()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch):
        return model(batch).mean() * (float("nan") if batch.sum() > 6 * 4 else 1), {}

    batches = [torch.ones(6, 4), 2 * torch.ones(6, 4)]
    with pytest.raises(RuntimeError, match=r"net: the loss is nan in epoch 1 of 3, step 2 of 2"):
        Training(0).run("net", {"net": model}, optimiser, 3, lambda epoch: batches, step, 2)


def test_rate_scales_the_learning_rate_of_each_epoch():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    Training(0).run(
        "line", {}, optimiser, 3, lambda epoch: [None], lambda _: (model.weight.sum(), {}), 1, lambda epoch: 0.1**epoch
    )
    assert model.weight.item() == pytest.approx(-1.11)


class Falling:
    """A watch that sees the weight, and refuses it below a limit."""

    def __init__(self, weight: torch.Tensor, least: float) -> None:
        self.weight, self.least = weight, least

    def values(self) -> dict[str, float]:
        return {"weight": float(self.weight.detach().sum())}

    def refuses(self, values, epoch: int, epochs: int) -> bool:
        return values["weight"] < self.least


def falling(training: Training, least: float, epochs: int = 5) -> tuple[float, Curves]:
    """A weight that starts at 0 and falls by 1 a step, two steps an epoch."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    curves = training.run(
        "line",
        {"line": model},
        optimiser,
        epochs,
        lambda epoch: [None, None],
        lambda _: (model.weight.sum(), {}),
        2,
        watch=Falling(model.weight, least),
    )
    return model.weight.item(), curves


def test_a_watch_undoes_the_epoch_that_it_refuses_and_ends_the_training():
    weight, curves = falling(Training(0), least=-5)
    assert weight == pytest.approx(-4)
    assert curves["weight"] == pytest.approx([-2, -4])


def test_what_a_watch_saw_after_the_first_step_outlives_a_kill(tmp_path: Path):
    training = Training(0, checkpoint=tmp_path / "state")
    falling(training, least=-100, epochs=1)
    weight, curves = falling(training, least=-100, epochs=3)
    assert taken_first_step(curves) == {"first_step_weight": pytest.approx(-1)}
    assert weight == pytest.approx(-6)


def test_a_groups_rate_rises_over_its_warm_up_and_no_others():
    slow, fast = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [slow], "lr": 1.0, WARM_UP: 4}, {"params": [fast], "lr": 1.0}]
    Training(0).run(
        "two", {}, torch.optim.SGD(groups), 3, lambda epoch: [None, None], lambda _: ((slow + fast).sum(), {}), 2
    )
    assert slow.item() == pytest.approx(-(1 / 4 + 2 / 4 + 3 / 4 + 1 + 1 + 1))
    assert fast.item() == pytest.approx(-6)
