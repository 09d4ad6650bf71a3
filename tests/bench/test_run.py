from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_configs import NETWORK, as_sets

from ddpm_cli.bench.peaks import DTYPES
from ddpm_cli.bench.peers import PEERS, Loop, nearest_network
from ddpm_cli.bench.request import BenchRequest, require_peers
from ddpm_cli.bench.run import run_bench
from ddpm_cli.bench.subject import Setting, image_shape, random_dataset, subject
from ddpm_cli.cli import bench as command
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.core.extras import missing_packages
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.training.trainer import Trainer

WIDER = as_sets(NETWORK | {"model.base_channels": 32, "model.channel_mult": [1, 1], "schedule.timesteps": 50})
INSTALLED = [name for name, peer in PEERS.items() if not missing_packages(*peer.packages)]


def tiny(*sets: str) -> Config:
    return load_config(sets=[*WIDER, "train.device=cpu", *sets]).config


def test_the_command_knows_what_the_engine_knows() -> None:
    assert tuple(PEERS) == command.PEERS
    assert tuple(DTYPES) == command.PRECISIONS
    assert "diffusers" in INSTALLED


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "ema_pytorch" else module)
    require_peers(["diffusers"])
    with pytest.raises(RequestError) as caught:
        require_peers(["diffusers", "lucidrains"])
    assert "needs ema-pytorch, which is not installed" in caught.value.message
    assert "pip install 'ddpm-cli[peers]'" in caught.value.remedy


@pytest.mark.parametrize("name", INSTALLED)
def test_a_peer_trains_and_samples(name: str) -> None:
    config = tiny("model.num_classes=3")
    nearest = nearest_network(name, config, (1, 8, 8))
    images = torch.rand(8, *nearest.image_shape) * 2 - 1
    train_step, sample = PEERS[name].steps(Loop(nearest.network, Accelerator(cpu=True), images, 4, 50, 2))
    before = [parameter.clone() for parameter in nearest.network.parameters()]
    for _ in range(3):  # over the end of the data; the first of some loops has a learning rate of 0
        train_step()
    moved = [not torch.equal(old, new) for old, new in zip(before, nearest.network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    sample()


def test_our_steps_are_those_of_the_trainer_and_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("sample.sampler=heun", "model.num_classes=auto", "data=cifar10")
    steps, batches = [], []
    train_step = Trainer.train_step

    def counted(trainer: Trainer) -> None:
        steps.append(trainer.step)
        batches.append(trainer.config.train.batch_size)
        train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", counted)
    config = config.model_copy(update={"model": config.model.model_copy(update={"num_classes": 10})})
    training, sampling = subject(Setting(config, random_dataset((3, 8, 8), 16, 10), 4, "fp32", make_accelerator("cpu", "fp32")))
    training.run()
    training.run()
    assert (steps, batches, training.units) == ([0, 1], [4, 4], 4)
    sampling.run()
    assert sampling.units == 4 * 3  # two steps of heun are three evaluations


@pytest.mark.parametrize(
    ("sets", "shape"),
    [
        (["data=cifar10"], (3, 32, 32)),
        (["data=mnist"], (1, 28, 28)),
        (["data.kind=folder", "data.size=48x32", "data.channels=4"], (4, 48, 32)),
    ],
)
def test_published_data_and_given_sizes_are_not_read(sets: list[str], shape: tuple[int, int, int]) -> None:
    assert image_shape(tiny(*sets).data) == shape


def test_data_that_must_be_read_and_is_missing() -> None:
    with pytest.raises(DataError, match="needs a folder"):
        image_shape(tiny("data.kind=folder", "data.size=48").data)


def test_a_batch_that_does_not_fit_is_told_of_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = Trainer.train_step

    def refuse(trainer: Trainer) -> None:
        if trainer.config.train.batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", refuse)
    found = run_bench(tiny("data=mnist"), BenchRequest([2, 1], seconds=0.1))
    assert [case.batch_size for case in found.cases] == [1]
    assert found.notes[0] == "A batch of 2 in fp32 does not fit into the memory of cpu."


def test_a_fault_that_is_none_of_memory_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(trainer: Trainer) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(Trainer, "train_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        run_bench(tiny("data=mnist"), BenchRequest([1], seconds=0.1))


def test_one_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one of 2"):
        run_bench(tiny(), BenchRequest([1]))
