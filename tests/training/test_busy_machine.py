"""Training beside other programs: passes side by side, and threads that give way where the clock ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from tiny_configs import tiny_config

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.compute import muon
from ddpm_cli.core.compute.processors import Processors
from ddpm_cli.core.compute.side_by_side import computing_threads
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.training.planning.estimate import PROBE_IMAGES, TrainingMemory, pace
from ddpm_cli.training.planning.rehearsal import Rehearsal
from ddpm_cli.training.state import restore_training, training_state, training_tensors
from ddpm_cli.training.trainer import Trainer

BATCH = "train.batch_size=32"
CLOCK = ("train.steps=none", "train.minutes=1")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with computing_threads(2):
        yield


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(tiny_config("data.limit=100").data)


def trainer(dataset: Dataset, *sets: str, events: list[Event] | None = None, precision: str = "fp32") -> Trainer:
    heard = [] if events is None else events
    return Trainer(tiny_config("data.limit=100", BATCH, *sets), dataset, make_accelerator("cpu", precision), heard.append)


def weights(of: Trainer, steps: int) -> torch.Tensor:
    for _ in range(steps):
        of.train_step()
    return torch.cat([parameter.detach().flatten() for parameter in of.model.parameters()])


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("train.micro_batch_size=32", "train.batch_size=72"),
        ("train.micro_batch_size=32", "train.batch_size=65", "model.stem=2"),
        ("model.num_classes=10", "objective.label_dropout=0.3", "data.horizontal_flip=true"),
        ("optimizer.kind=muon",),
    ],
)
def test_passes_side_by_side_train_as_one(sets: tuple[str, ...], dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "product_type", lambda _: torch.float32)  # whose rounding would hide what is compared
    ours = trainer(dataset, *sets)
    assert ours.side_by_side is not None
    with computing_threads(1):
        plain = trainer(dataset, *sets)
    assert plain.side_by_side is None
    start = weights(ours, 0)
    found, expected = weights(ours, 3), weights(plain, 3)
    assert (found - start).abs().max() > 1e-4
    # Adam makes of a gradient that is rounding alone as much as of any other: most weights say more than the farthest one.
    assert (found - expected).abs().quantile(0.9) < 1e-5
    assert torch.equal(weights(trainer(dataset, *sets), 3), found)


def test_half_precision_holds_in_every_pass(dataset: Dataset) -> None:
    seen: list[torch.dtype] = []
    ours = trainer(dataset, precision="bf16")
    assert ours.side_by_side is not None
    for network in ours.side_by_side.networks:
        network.conv_out.register_forward_hook(lambda *found: seen.append(found[2].dtype))
    ours.train_step()
    assert seen == [torch.bfloat16] * 2


def test_what_is_restored_is_seen_by_every_pass(dataset: Dataset) -> None:
    before = trainer(dataset)
    weights(before, 2)
    tensors = {name: {key: value.clone() for key, value in group.items()} for name, group in training_tensors(before).items()}
    state = training_state(before)
    expected = weights(before, 2)
    after = trainer(dataset)
    restore_training(after, SimpleNamespace(step=2, path="here", state=state, tensors=tensors.__getitem__))  # type: ignore[arg-type]
    assert torch.equal(weights(after, 2), expected)


@pytest.mark.parametrize(
    "sets",
    [("model.dropout=0.1",), ("train.gradient_checkpointing=true",), ("train.batch_size=31",), ("train.micro_batch_size=16",)],
)
def test_one_pass_after_the_other_where_it_must_be(sets: tuple[str, ...], dataset: Dataset) -> None:
    assert trainer(dataset, *sets).side_by_side is None


def make_busy(monkeypatch: pytest.MonkeyPatch, *lost: float) -> None:
    """Let each look find that other programs took a part of the processors; one look a step."""
    left = list(lost)
    monkeypatch.setattr(Processors, "seconds", property(lambda _: 2.0))
    monkeypatch.setattr(Processors, "lost", lambda _: left.pop(0) if left else 0.0)


def threads_of_steps(ours: Trainer, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The threads of each pass of each step."""
    found: list[list[int]] = []
    original = Trainer.run_pass

    def counted(self: Trainer, *arguments: object) -> object:
        found[-1].append(torch.get_num_threads())
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run_pass", counted)
    for _ in range(steps):
        found.append([])
        ours.train_step()
    return found


def test_a_run_that_the_clock_ends_gives_way(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch, 0.1, 0.5, 0.6, 0.0, 0.5)
    events: list[Event] = []
    ours = trainer(dataset, *CLOCK, events=events)
    assert threads_of_steps(ours, 5, monkeypatch) == [[1, 1], [1], [1], [1, 1], [1]]
    told = [event.message for event in events if isinstance(event, Notice)]
    assert len(told) == 1
    assert "from step 2 on" in told[0]
    assert "1 thread instead of 2" in told[0]
    with ours.computing():
        assert torch.get_num_threads() == 1  # pictures and losses between the steps give way, too
    assert torch.get_num_threads() == 2


def test_muon_gives_way_too(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch, 0.0, 0.5, 0.0)
    ours = trainer(dataset, *CLOCK, "optimizer.kind=muon")
    assert ours.side_by_side is not None
    each = []
    for _ in range(3):
        ours.train_step()
        each.append(ours.optimizer.each)  # type: ignore[attr-defined]
    assert each == [ours.side_by_side.each, map, ours.side_by_side.each]


def test_a_run_that_steps_end_keeps_its_threads(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights(trainer(dataset), 2)
    make_busy(monkeypatch, 0.5, 0.9)
    events: list[Event] = []
    ours = trainer(dataset, events=events)
    assert torch.equal(weights(ours, 2), expected)
    assert ours.lost == 0.9  # it is told nevertheless
    assert not events


def test_the_rehearsal_takes_passes_as_training_does(dataset: Dataset) -> None:
    accelerator = make_accelerator("cpu", "fp32")
    sizes: list[int] = []
    for sets, expected in (((), PROBE_IMAGES), (("model.dropout=0.1",), PROBE_IMAGES)):
        rehearsal = Rehearsal.of(tiny_config(BATCH, *sets), dataset.image_shape, accelerator)
        assert rehearsal.passes_at_once == (1 if sets else 2)
        sizes.clear()
        rehearsal.network.register_forward_hook(lambda *found: sizes.append(len(found[2])))
        found = pace(rehearsal, 32)
        assert set(sizes) == {expected}
        assert found.seconds_per_image > 0
        assert all(parameter.grad is None for parameter in rehearsal.network.parameters())


def test_the_rehearsal_notices_other_programs(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch, 0.45)
    rehearsal = Rehearsal.of(tiny_config(BATCH), dataset.image_shape, make_accelerator("cpu", "fp32"))
    assert pace(rehearsal, 32).lost == 0.45


def test_the_estimate_of_memory_counts_the_gradients_of_each_pass(dataset: Dataset) -> None:
    config = tiny_config(BATCH)
    rehearsal = Rehearsal.of(config, dataset.image_shape, make_accelerator("cpu", "fp32"))
    memory = TrainingMemory.of(rehearsal, 0, 2)
    alone = TrainingMemory(**{**vars(memory), "passes_at_once": 1})
    assert memory.peak(config) - alone.peak(config) == rehearsal.weight_bytes
