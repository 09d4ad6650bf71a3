"""The training step: equal to the plain loop, and without a wait for the device."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plain_loop import train_plainly
from tiny_configs import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.network import build_optimizer
from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.config.schema.optimizer import AdamOptimizer
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.core.compute.weights import flatten_optimizer, spread_moments, unflatten_optimizer
from ddpm_cli.data.images import Dataset
from ddpm_cli.results.events import Event, Incident
from ddpm_cli.training.outcome import LateNumbers
from ddpm_cli.training.trainer import Trainer

STEPS = 50
HOST_READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}


def tiny(*sets: str) -> Config:
    changes = ("data.limit=100", "model.attention_resolutions=[7]", "optimizer.lr=1e-3")
    return tiny_config(*changes, "train.max_grad_norm=0.5", "ema.decay=0.9", *sets)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(tiny().data)


def trainer_of(dataset: Dataset, *sets: str, **options: Any) -> Trainer:
    return Trainer(tiny(*sets), dataset, make_accelerator("cpu", "fp32"), **options)


def test_the_loop_equals_the_plain_loop(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of 50 steps, and what the averaged weights predict then, to 1e-4 in float32, where only the order of sums differs.

    Not the weights themselves: the gradient of a bias before a norm is rounding alone, which Adam makes as large as any other.
    """
    losses: list[float] = []
    ours = trainer_of(dataset)
    monkeypatch.setattr(ours.losses, "add", losses.append)
    plain = train_plainly(
        copy.deepcopy(ours.model),
        torch.from_numpy(dataset.train.images.copy()),
        steps=STEPS,
        batch_size=8,
        lr=1e-3,
        max_grad_norm=0.5,
        ema_decay=0.9,
        seed=0,
    )
    for _ in range(STEPS):
        ours.train_step()
    assert len(losses) == STEPS
    assert max(abs(a - b) for a, b in zip(losses, plain.losses, strict=True)) < 1e-4
    assert plain.losses[-1] < plain.losses[0] - 0.25  # it learned: equal losses of an idle loop would show nothing
    images, t = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.arange(0, 1000, 125)
    with torch.no_grad():
        expected, last, averaged = (model(images, t) for model in (plain.average, plain.model, ours.ema.model))
    torch.testing.assert_close(averaged, expected, rtol=0, atol=1e-4)
    assert (last - expected).abs().max() > 1e-2


class Reads(TorchDispatchMode):
    """Counts what reads a number off a tensor, for which the host waits where the tensor is on another device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] in HOST_READS:
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


def count_transfers(monkeypatch: pytest.MonkeyPatch, reads: Reads) -> None:
    """Count the calls, too, that reach no dispatcher on a CPU."""
    for name in ("cpu", "numpy", "tolist"):
        original = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *arguments: Any, name: str = name, original: Any = original) -> Any:
            reads.found.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, counted)


@pytest.mark.parametrize(
    "sets",
    [
        ("train.micro_batch_size=3",),
        ("objective.timesteps=stratified", "objective.parameterization=v", "model.num_classes=10"),
        ("objective.timesteps=log-normal", "objective.parameterization=edm", "train.max_grad_norm=none", "optimizer.kind=adamw"),
        ("objective.loss=hybrid", "objective.variance=learned-range", "model.dropout=0.1", "data.horizontal_flip=true"),
        ("objective.timesteps=logit-normal", "objective.weighting=min-snr"),
    ],
)
def test_no_step_reads_from_the_device(sets: tuple[str, ...], dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, where the numbers of a step are read when further steps are under way; here they are never read."""
    ours = trainer_of(dataset, *sets)
    ours.lag = 100
    ours.train_step()  # makes what is made once: moments, tables of the schedule
    with Reads() as reads:
        with monkeypatch.context() as patch:
            count_transfers(patch, reads)
            for _ in range(4):
                ours.train_step()
        assert reads.found == []
        ours.settle()
        float(torch.ones(()))
    assert reads.found == ["aten::_local_scalar_dense"]
    assert ours.settled_step == ours.step == 5


def test_numbers_read_late_are_those_of_their_step(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in step 3 is told of with its step and images, whether at once or after three more, and leaves the same weights."""
    at_once, late = [], []
    for found, lag in ((at_once, 0), (late, 3)):
        incidents: list[Incident] = []

        def listen(event: Event, incidents: list[Incident] = incidents) -> None:
            assert isinstance(event, Incident)
            incidents.append(event)

        with monkeypatch.context() as patch:
            original = ObjectiveConfig.build_loss

            def build(*arguments: Any, original: Any = original) -> Any:
                loss, calls = original(*arguments), iter(range(100))
                return lambda *rest: loss(*rest) * (float("nan") if next(calls) == 2 else 1.0)

            patch.setattr(ObjectiveConfig, "build_loss", build)
            ours = trainer_of(dataset, on_event=listen)
        ours.lag = lag
        for _ in range(5):
            ours.train_step()
        assert len(incidents) == (lag == 0)
        ours.train_step()
        ours.settle()
        found += [incidents, ours.health.state(), ours.losses.state(), ours.grad_norm, int(ours.ema.updates)]
        found += [ours.ema.model.state_dict(), ours.model.state_dict()]
    assert [incident.step for incident in late[0]] == [3]
    assert at_once[:5] == late[:5]
    assert late[4] == 5
    for first, second in zip(at_once[5:], late[5:], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_late_numbers() -> None:
    assert LateNumbers(torch.tensor(0.5), torch.tensor(True), torch.tensor(3)).read() == [0.5, 1.0, 3.0]


def test_moments_that_were_stored_lie_in_memory_as_their_weights_do() -> None:
    """The fused kernels go through weight, gradient and moments in the order of memory, whatever their strides say."""
    generator = torch.Generator().manual_seed(0)
    start, *slopes = (torch.randn(4, 3, 2, 2, generator=generator) for _ in range(4))

    def begun(weight: torch.Tensor) -> torch.optim.Optimizer:
        return build_optimizer(AdamOptimizer(lr=0.1), torch.nn.ParameterList([weight]), torch.device("cpu"))

    def stepped(optimizer: torch.optim.Optimizer, weight: torch.Tensor, slope: torch.Tensor) -> None:
        weight.grad = slope.contiguous(memory_format=torch.channels_last)
        optimizer.step()

    weight = torch.nn.Parameter(start.contiguous(memory_format=torch.channels_last))
    optimizer = begun(weight)
    stepped(optimizer, weight, slopes[0])
    stored = {name: value.contiguous() for name, value in flatten_optimizer(optimizer.state_dict()).items()}  # as files hold them
    again = torch.nn.Parameter(weight.detach().clone())
    restored = begun(again)
    restored.load_state_dict(spread_moments(unflatten_optimizer(stored, restored), restored.param_groups))
    for slope in slopes[1:]:
        stepped(optimizer, weight, slope)
        stepped(restored, again, slope)
    assert torch.equal(weight, again)


@pytest.mark.parametrize(
    ("sets", "on_grid"),
    [
        ((), False),
        (("objective.loss=hybrid", "objective.variance=learned-range"), True),
        (("objective.loss=vlb",), True),
        (("schedule=learned",), True),
    ],
)
def test_a_bound_sees_augmented_pixels_on_the_grid_of_stored_ones(sets: tuple[str, ...], on_grid: bool, dataset: Dataset) -> None:
    trainer = trainer_of(dataset, "data.augment=0.9", *sets)
    levels = (trainer.batches.images_at(0) + 1) * 127.5
    assert bool((levels - levels.round()).abs().max() < 1e-3) == on_grid
