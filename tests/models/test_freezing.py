"""Freezing a network up to a block."""

from __future__ import annotations

import pytest
from tiny_configs import DIT, tiny_config

from ddpm_cli.build.network import build_network
from ddpm_cli.errors import ConfigError
from ddpm_cli.models.base import block_names, freeze


def test_all_that_comes_before_is_frozen_but_not_the_classes() -> None:
    network = build_network(tiny_config("model.num_classes=3"), (1, 28, 28))
    frozen = freeze(network, "down.0")
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {*frozen} | free == {name for name, _ in network.named_parameters()}
    assert not {*frozen} & free
    assert {name.split(".")[0] for name in frozen} == {"time_embedding", "conv_in", "down"}
    assert any(name.startswith("down.0.downsample.") for name in frozen)
    assert "label_embedding.weight" in free
    assert all(name in free for name, _ in network.named_parameters() if name.startswith(("down.1.", "middle", "up.", "conv_out")))


def test_a_single_block_ends_it_too() -> None:
    network = build_network(tiny_config("model.blocks_per_level=2"), (1, 28, 28))
    assert "down.0.stages.0" in block_names(network)
    frozen = freeze(network, "down.0.stages.0")
    assert any(name.startswith("down.0.stages.0.") for name in frozen)
    assert not any(name.startswith("down.0.stages.1.") for name in frozen)


def test_a_block_that_is_not_there_is_answered_with_those_that_are() -> None:
    network = build_network(tiny_config(), (1, 28, 28))
    with pytest.raises(ConfigError, match=r"no block 'down\.7'") as refused:
        freeze(network, "down.7")
    assert "down.0, down.1, middle_in, middle_out, up.0, up.1" in refused.value.remedy
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_blocks_of_a_transformer_are_frozen_with_what_reads_the_image() -> None:
    network = build_network(tiny_config("model.num_classes=3", "model.registers=2", network=DIT), (1, 28, 28))
    assert block_names(network) == ["blocks.0", "blocks.1"]
    frozen = freeze(network, "blocks.0")
    assert {name.split(".")[0] for name in frozen} == {"time_embedding", "patch_in", "registers", "blocks"}
    assert not any(name.startswith("blocks.1.") for name in frozen)
