"""Muon: against torch's own where that serves, its steps that are skipped, and what it leaves to AdamW."""

from __future__ import annotations

import pytest
import torch
from tiny_configs import DIT, tiny_config
from torch import Tensor, nn

from ddpm_cli.build.network import build_network, build_optimizer
from ddpm_cli.config.schema.optimizer import AdamWOptimizer, MuonOptimizer
from ddpm_cli.core.compute.muon import MOMENTUM, inner_matrices, orthogonal, product_type
from ddpm_cli.core.compute.skipping import step_if
from ddpm_cli.core.compute.weights import flatten_optimizer, moment_bytes, spread_moments, unflatten_optimizer
from ddpm_cli.errors import CheckpointError

CPU = torch.device("cpu")


class Net(nn.Module):
    """First and last convolution, one between, a norm, a linear map and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.inner, self.last = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 1, 3)
        self.norm, self.linear, self.classes = nn.GroupNorm(2, 6), nn.Linear(5, 7), nn.Embedding(3, 5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)


def give_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("in_bfloat16", "error"), [(False, 1e-3), (True, 5e-2)])
@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (20, 20)])
def test_singular_values_come_close_to_one_and_their_vectors_stay(
    shape: tuple[int, int], in_bfloat16: bool, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": in_bfloat16}, raising=False)
    assert (product_type(CPU) == torch.bfloat16) == in_bfloat16
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    (found,) = orthogonal([matrix], 5)
    values = torch.diagonal(left.mT @ found @ right.mT)
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert (left.mT @ found @ right.mT - torch.diag(values)).abs().max() < error


def test_those_of_one_shape_are_computed_at_once_and_come_back_in_order() -> None:
    matrices = [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed, shape in enumerate([(3, 5), (5, 3)] * 2)
    ]
    together = orthogonal(matrices, 4)
    for matrix, found in zip(matrices, together, strict=True):
        assert torch.allclose(found, orthogonal([matrix], 4)[0], atol=1e-6)


def test_a_linear_map_moves_as_torchs_own_muon_moves_it() -> None:
    """That takes two dimensions only, and iterates in bfloat16."""
    ours, theirs = Net(), Net()
    settings = MuonOptimizer(matrix_lr=0.1, momentum=0.9, weight_decay=0.05)
    optimizer = build_optimizer(settings, ours, CPU)
    oracle = torch.optim.Muon(
        [theirs.linear.weight], lr=0.1, momentum=0.9, weight_decay=0.05, adjust_lr_fn="match_rms_adamw", nesterov=True
    )
    start = ours.linear.weight.detach().clone()
    for seed in range(4):
        give_gradients(ours, seed)
        theirs.linear.weight.grad = ours.linear.weight.grad.clone()  # type: ignore[union-attr]
        optimizer.step()
        oracle.step()
    moved = (ours.linear.weight - start).norm()
    assert moved > 0.1
    assert (ours.linear.weight - theirs.linear.weight).norm() < 0.02 * moved


def test_a_convolution_moves_as_its_matrix_in_any_order_of_memory() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        network = Net()
        network.inner.weight.data = network.inner.weight.data.contiguous(memory_format=layout)
        optimizer = build_optimizer(MuonOptimizer(matrix_lr=0.1, momentum=0.0, ns_steps=3), network, CPU)
        give_gradients(network, 5)
        start, gradient = network.inner.weight.detach().clone(), network.inner.weight.grad
        assert gradient is not None
        (direction,) = orthogonal([gradient.reshape(4, -1)], 3)
        optimizer.step()
        expected = start - 0.1 * 0.2 * 54**0.5 * direction.reshape(start.shape)
        assert torch.allclose(network.inner.weight, expected, atol=1e-6)


def test_the_rest_moves_as_adamw_moves_it() -> None:
    ours, theirs = Net(), Net()
    optimizers = build_optimizer(MuonOptimizer(lr=0.01), ours, CPU), build_optimizer(AdamWOptimizer(lr=0.01), theirs, CPU)
    for seed in range(3):
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            give_gradients(network, seed)
            optimizer.step()
    differing = [name for name, value in ours.state_dict().items() if not torch.equal(value, theirs.state_dict()[name])]
    assert differing == ["inner.weight", "linear.weight"]


def test_first_and_last_layer_norms_biases_and_embeddings_are_no_matrices_of_it() -> None:
    network = Net()
    assert [id(weight) for weight in inner_matrices(network)] == [id(network.inner.weight), id(network.linear.weight)]


def test_of_a_transformer_it_moves_all_maps_between_patches_and_pixels() -> None:
    network = build_network(tiny_config("model.num_classes=3", "model.registers=2", network=DIT), (1, 28, 28))
    moved = {id(weight) for weight in inner_matrices(network)}
    others = {name for name, weight in network.named_parameters() if weight.ndim > 1 and id(weight) not in moved}
    assert others == {"patch_in.weight", "linear_out.weight", "label_embedding.weight", "registers"}
    assert "modulation_out.weight" in {name for name, weight in network.named_parameters() if id(weight) in moved}


def test_a_step_that_is_not_taken_moves_nothing() -> None:
    network = Net()
    optimizer = build_optimizer(MuonOptimizer(lr=0.01), network, CPU)
    give_gradients(network, 0)
    step_if(torch.tensor(True), optimizer)
    before, kept = weights(network), {name: value.clone() for name, value in flatten_optimizer(optimizer.state_dict()).items()}
    give_gradients(network, 1)
    network.inner.weight.grad[0] = torch.nan  # type: ignore[index]
    step_if(torch.tensor(False), optimizer)
    assert all(torch.equal(before[name], value) for name, value in weights(network).items())
    assert all(torch.equal(kept[name], value) for name, value in flatten_optimizer(optimizer.state_dict()).items())


def test_what_was_stored_goes_on_to_the_same_bits() -> None:
    network = Net()
    optimizer = build_optimizer(MuonOptimizer(lr=0.01), network, CPU)
    give_gradients(network, 0)
    optimizer.step()
    stored = {name: value.clone() for name, value in flatten_optimizer(optimizer.state_dict()).items()}
    assert sum(name.endswith(MOMENTUM) for name in stored) == 2
    assert moment_bytes(optimizer) == sum(value.nbytes for name, value in stored.items() if not name.endswith(".step"))
    again = Net()
    again.load_state_dict(network.state_dict())
    restored = build_optimizer(MuonOptimizer(lr=0.01), again, CPU)
    restored.load_state_dict(spread_moments(unflatten_optimizer(stored, restored), restored.param_groups))
    for pair in ((network, optimizer), (again, restored)):
        give_gradients(pair[0], 1)
        pair[1].step()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_moments_of_another_optimizer_are_refused() -> None:
    network = Net()
    muon, adam = build_optimizer(MuonOptimizer(), network, CPU), build_optimizer(AdamWOptimizer(), network, CPU)
    give_gradients(network, 0)
    muon.step()
    adam.step()
    for one, other in ((muon, adam), (adam, muon)):
        with pytest.raises(CheckpointError, match="checkpoint's optimizer"):
            unflatten_optimizer(flatten_optimizer(one.state_dict()), other)
