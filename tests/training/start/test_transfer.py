"""Which weights one network takes from another: what it predicts then, and a name for each that is new or left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tiny_configs import DIT, NETWORK, tiny_config

from ddpm_cli.build.network import build_network
from ddpm_cli.models.base import Denoiser
from ddpm_cli.training.start.transfer import Transfer, plan_transfer


def network(*sets: str, shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0, kind: Mapping[str, Any] = NETWORK) -> Denoiser:
    made = build_network(tiny_config(*sets, network=kind), shape)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return made


def taken_into(after: Denoiser, before: Denoiser, transfer: Transfer) -> Denoiser:
    after.load_state_dict(transfer.weights(before.state_dict(), after.state_dict()))
    return after


def assert_all_named(before: Denoiser, after: Denoiser, transfer: Transfer) -> None:
    """Every tensor of both is taken or told of; a row or a part of one stands behind its name."""
    used = {*transfer.taken, *transfer.adapted}
    assert used | {name.split(" ")[0] for name in transfer.new} == {*after.state_dict()}
    assert used | {name.split(" ")[0] for name in transfer.left} == {*before.state_dict()}


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (NETWORK, {"conv_in.weight", "conv_out.weight", "conv_out.bias"}),
        (DIT, {"patch_in.weight", "linear_out.weight", "linear_out.bias"}),
    ],
)
def test_colour_from_grey_predicts_of_a_grey_picture_what_grey_did_in_each_channel(kind: Mapping[str, Any], ends: set[str]) -> None:
    before, after = network(kind=kind), network(shape=(3, 28, 28), seed=1, kind=kind)
    transfer = plan_transfer(before, after)
    assert {*transfer.adapted} == ends
    assert not transfer.new
    assert_all_named(before, after, transfer)
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([3, 700])
    with torch.no_grad():
        expected = before(x, t)
        found = taken_into(after, before, transfer)(x.expand(-1, 3, -1, -1), t)
    torch.testing.assert_close(found, expected.expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [NETWORK, DIT])
def test_other_sizes_take_everything(kind: Mapping[str, Any]) -> None:
    before, after = network(kind=kind), network(shape=(1, 44, 64), seed=1, kind=kind)
    transfer = plan_transfer(before, after)
    assert {*transfer.taken} == {*after.state_dict()}
    assert not transfer.new
    assert not transfer.left


def test_classes_are_taken_by_name_with_the_null_label() -> None:
    before, after = network("model.num_classes=3"), network("model.num_classes=4", seed=1)
    transfer = plan_transfer(before, after, ("bag", "boot", "coat"), ("boot", "hat", "coat", "shoe"))
    name = "label_embedding.weight"
    old, own = before.state_dict()[name].clone(), after.state_dict()[name].clone()
    rows = taken_into(after, before, transfer).state_dict()[name]
    torch.testing.assert_close(rows, torch.stack([old[1], own[1], old[2], own[3], old[3]]), rtol=0, atol=0)
    assert {*transfer.new} == {f"{name} (hat)", f"{name} (shoe)"}
    assert {*transfer.left} == {f"{name} (bag)"}
    assert_all_named(before, after, transfer)


def test_a_class_table_without_a_counterpart_is_named() -> None:
    with_labels, without = network("model.num_classes=3"), network(seed=1)
    assert {*plan_transfer(with_labels, without).left} == {"label_embedding.weight"}
    assert {*plan_transfer(without, with_labels).new} == {"label_embedding.weight"}


def test_another_width_and_depth_takes_what_has_the_same_shape_and_names_the_rest() -> None:
    before = network()
    for sets in (("model.base_channels=16",), ("model.blocks_per_level=2",), ("model.channel_mult=[1,2,2]",)):
        after = network(*sets, seed=1)
        transfer = plan_transfer(before, after)
        assert transfer.new
        assert_all_named(before, after, transfer)
        weights = taken_into(after, before, transfer).state_dict()
        assert all(torch.equal(weights[name], before.state_dict()[name]) for name in transfer.taken)


def test_a_stem_of_another_size_is_not_taken_for_other_channels() -> None:
    """Four channels without a stem and one channel behind a stem of 2 have convolutions of the same shape."""
    before, after = network("model.stem=2"), network("model.stem=1", shape=(4, 28, 28), seed=1)
    assert before.state_dict()["conv_in.weight"].shape == after.state_dict()["conv_in.weight"].shape
    transfer = plan_transfer(before, after)
    assert {"conv_in.weight", "conv_out.weight", "conv_out.bias"} <= transfer.new.keys() & transfer.left.keys()


def test_a_learned_variance_is_left_out_or_new() -> None:
    learned = ("objective.loss=hybrid",)
    before, after = network(*learned), network(seed=1)
    transfer = plan_transfer(before, after)
    assert "conv_out.weight (variance)" in transfer.left
    assert_all_named(before, after, transfer)
    mean = taken_into(after, before, transfer).state_dict()["conv_out.weight"]
    assert torch.equal(mean, before.state_dict()["conv_out.weight"][: len(mean)])
    assert "conv_out.weight (variance)" in plan_transfer(after, before).new


def test_a_transformer_takes_other_patches_but_for_what_reads_and_writes_them_and_a_variance_that_is_new() -> None:
    before = network(kind=DIT)
    after = network("model.patch_size=2", seed=1, kind=DIT)
    transfer = plan_transfer(before, after)
    assert {*transfer.new} == {"patch_in.weight", "linear_out.weight", "linear_out.bias"}
    learned = network("objective.loss=hybrid", seed=1, kind=DIT)
    transfer = plan_transfer(before, learned)
    assert {*transfer.new} == {"linear_out.weight (variance)", "linear_out.bias (variance)"}
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(taken_into(learned, before, transfer)(x, t)[:, :1], before(x, t), rtol=0, atol=1e-6)
