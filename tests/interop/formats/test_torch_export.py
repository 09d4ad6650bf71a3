from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from trained_models import trained_dit

from ddpm_cli.errors import CheckpointError, OutputError
from ddpm_cli.interop.formats.torch_export import load_program, save_program, write
from ddpm_cli.interop.registry import ExportOptions
from ddpm_cli.interop.same_noise import largest_difference
from ddpm_cli.models.unet import UNet


@pytest.fixture(scope="module")
def network() -> UNet:
    torch.manual_seed(0)
    network = UNet(
        in_channels=2,
        image_size=(7, 6),
        base_channels=8,
        channel_mult=(1, 2),
        blocks_per_level=1,
        attention_resolutions=(2,),
        attention_heads=2,
        middle_attention=True,
        dropout=0.5,
        scale_shift_norm=True,
        norm_groups=4,
        stem=2,
    ).to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.fixture(scope="module")
def program_file(network: UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    network.train()
    save_program(network, torch.zeros(1, 2, 7, 6), path)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    return path


def test_program_predicts_what_the_network_predicts(network: UNet, program_file: Path) -> None:
    program = load_program(program_file)
    network.eval()
    assert network(torch.randn(1, 2, 7, 6), torch.tensor([5])).std() > 0.1
    assert largest_difference(network, program, (2, 7, 6), batches=(1, 2, 3, 17)) < 1e-5


def test_program_runs_without_this_package(program_file: Path, tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "assert program(torch.randn(5, 2, 7, 6), torch.arange(5)).shape == (5, 2, 7, 6)\n"
        "assert not any(name.startswith('ddpm') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(program_file)], check=True, cwd=tmp_path, timeout=120)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_program_is_refused(program_file: Path, tmp_path: Path, share: float) -> None:
    data = program_file.read_bytes()
    path = tmp_path / "model.pt2"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="damaged"):
        load_program(path)


def test_missing_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot read"):
        load_program(tmp_path / "absent.pt2")


def test_existing_file_stays_if_the_network_cannot_be_exported(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    path = tmp_path / "model.pt2"
    path.write_text("before")
    with pytest.raises(Exception, match=r"data-dependent|Could not guard"):
        save_program(Branching(), torch.zeros(1, 1, 4, 4), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_an_output_error(network: UNet, tmp_path: Path) -> None:
    class Identity(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x + t[:, None, None, None]

    with pytest.raises(OutputError):
        save_program(Identity(), torch.zeros(1, 1, 4, 4), tmp_path / "absent" / "model.pt2")


def test_largest_difference_sees_every_batch_and_nan() -> None:
    def zero(x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def off_in_large_batches(x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, 0.5 if len(x) > 2 else 0.25)

    def nan_in_small_batches(x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, math.nan if len(x) < 2 else 0.0)

    assert largest_difference(zero, zero, (1, 2, 2)) == 0
    assert largest_difference(zero, off_in_large_batches, (1, 2, 2)) == 0.5
    assert math.isnan(largest_difference(zero, nan_in_small_batches, (1, 2, 2)))


def test_a_transformer_is_written_with_labels_and_a_batch_of_any_size(tmp_path: Path) -> None:
    model = trained_dit("model.registers=2", "model.num_classes=3")
    (comparison,) = write(model, tmp_path / "model.pt2", ExportOptions())
    assert comparison.holds
    assert comparison.difference < 1e-5
