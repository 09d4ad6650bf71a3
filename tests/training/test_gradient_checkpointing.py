"""Activations that are computed twice are the same, and fewer of them are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_configs import DIT, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_cli.build.network import build_model
from ddpm_cli.config.schema.config import Config
from ddpm_cli.interop.formats.torch_export import load_program, save_program
from ddpm_cli.models.base import recompute_blocks
from ddpm_cli.models.unet import UNet
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.train import resume, train

ON = "train.gradient_checkpointing=true"
MODES: dict[str, list[str]] = {
    "simple": [],
    "accumulation, bf16": ["train.micro_batch_size=3", "train.precision=bf16"],
    "learned schedule": ["schedule.kind=learned"],
    "hybrid, classes": ["objective.loss=hybrid", "model.num_classes=auto"],
    "edm": ["objective.parameterization=edm", "objective.timesteps=log-normal"],
}


def tiny(*sets: str) -> Config:
    return tiny_config(
        "schedule.timesteps=100",
        "model.attention_resolutions=[7]",
        "model.dropout=0.2",
        "train.steps=4",
        *sets,
    )


def final_tensors(runs: Path, name: str) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(RunDirectory(runs / name))
    return {f"{group}/{k}": v for group in ("model", "ema", "optimizer") for k, v in checkpoint.tensors(group).items()}


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


def test_the_weights_of_a_transformer_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    for name, sets in (("kept", ()), ("recomputed", (ON,))):
        train(tiny_config("model.dropout=0.2", "train.steps=2", *sets, network=DIT), runs=tmp_path, name=name)
    assert_same_bits(final_tensors(tmp_path, "kept"), final_tensors(tmp_path, "recomputed"))


@pytest.mark.parametrize("mode", MODES)
def test_the_weights_are_the_same_bit_for_bit(tmp_path: Path, mode: str) -> None:
    train(tiny(*MODES[mode]), runs=tmp_path, name="kept")
    train(tiny(*MODES[mode], ON), runs=tmp_path, name="recomputed")
    assert_same_bits(final_tensors(tmp_path, "kept"), final_tensors(tmp_path, "recomputed"))


def test_a_resumed_run_keeps_the_setting(tmp_path: Path) -> None:
    train(tiny(), runs=tmp_path, name="whole")
    train(tiny(ON, "train.steps=2"), runs=tmp_path, name="parts")
    resume(tmp_path / "parts", budget={"steps": 4})
    assert_same_bits(final_tensors(tmp_path, "whole"), final_tensors(tmp_path, "parts"))


class Convolutions(TorchDispatchMode):
    """Counts forward convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's own signature
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def network(recompute: bool) -> UNet:
    model = build_model(tiny().model, (1, 28, 28))
    recompute_blocks(model, recompute)
    return model


def convolutions(model: UNet, *, backward: bool) -> int:
    with Convolutions() as counter:
        result = model(torch.zeros(2, 1, 28, 28), torch.zeros(2))
        if backward:
            result.sum().backward()
    return counter.count


def test_only_training_computes_twice() -> None:
    once = convolutions(network(False), backward=True)
    assert convolutions(network(True), backward=True) > 1.5 * once
    assert convolutions(network(True).eval(), backward=True) == once
    with torch.no_grad():
        assert convolutions(network(True), backward=False) == once


def test_less_is_kept_for_the_backward_pass() -> None:
    kept = {}
    for recompute in (False, True):
        sizes: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, torch.UntypedStorage] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor.detach()

        model = network(recompute)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = model(torch.zeros(64, 1, 28, 28), torch.zeros(64))
        kept[recompute] = sum(storage.nbytes() for storage in sizes.values())
        del result
    assert kept[True] < 0.6 * kept[False]


def test_an_exported_program_knows_nothing_of_it(tmp_path: Path) -> None:
    model = network(True)
    x, t = torch.randn(3, 1, 28, 28), torch.arange(3)
    save_program(model, x, tmp_path / "program.pt2")
    program = load_program(tmp_path / "program.pt2")
    assert not any("checkpoint" in name for name, _ in program.named_modules())
    with torch.no_grad():
        torch.testing.assert_close(program(x, t), model.eval()(x, t))
