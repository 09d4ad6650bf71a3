from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddpm_cli.errors import CheckpointError
from ddpm_cli.metrics.weights_file import load_strictly, read_weights


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_weights_come_back_and_half_precision_is_widened(tmp_path: Path) -> None:
    source, target = network(), network()
    save_file({name: t.half() if t.is_floating_point() else t for name, t in source.state_dict().items()}, tmp_path / "w")
    weights = read_weights(tmp_path / "w", "")
    load_strictly(target, weights.tensors, "w", "")
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == source.state_dict()[name].dtype
        assert torch.allclose(tensor, source.state_dict()[name], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"0\.weight is missing"),
        ({"0.weight": None, "1.bias": None}, r"0\.weight is missing"),
        ({"1.bias": torch.zeros(3)}, r"1\.bias has the shape \[3\] instead of \[2\]"),
        ({"1.weight": torch.tensor([1.0, torch.nan])}, r"1\.weight is not finite"),
        ({"2.weight": torch.zeros(1)}, r"2\.weight does not belong to it"),
    ],
)
def test_the_first_wrong_weight_is_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    tensors = {name: tensor for name, tensor in {**before, **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message) as caught:
        load_strictly(target, tensors, "some.file", "Do this.")
    assert str(caught.value).startswith("some.file")
    assert caught.value.remedy == "Do this."
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_counters_of_batch_norm_may_be_left_out() -> None:
    tensors = {name: tensor for name, tensor in network().state_dict().items() if "num_batches" not in name}
    load_strictly(network(), tensors, "some.file", "")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        read_weights(path, "")
