"""The cost of a pass, known from sizes, against a count of its operations and a trace of its memory."""

from __future__ import annotations

import pytest
import torch

from ddpm_cli.build.network import build_network
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.models.cost import forward_flops
from ddpm_cli.training.planning.memory_trace import peak_memory

CPU = torch.device("cpu")
CONFIGS = (
    ("1x16x16",),
    ("3x16x16", "model.stem=1", "model.channel_mult=[1]"),
    ("3x32x32", "model.stem=1", "model.channel_mult=[1,1,2]", "model.blocks_per_level=3"),
    ("3x32x32", "model.stem=1", "model.attention_resolutions=[32,16]"),
    ("3x8x32", "model.stem=1", "model.channel_mult=[1,8]", "model.middle_attention=false"),
    ("1x64x64", "model.stem=1", "model.channel_mult=[1,1]", "model.base_channels=4"),
    ("2x16x16", "model.channel_mult=[8,1]", "objective.loss=hybrid", "model.num_classes=9", "model.scale_shift_norm=true"),
    ("1x28x28", "model=dit"),
    ("3x16x32", "model=dit", "model.patch_size=2", "model.width=32", "model.heads=2", "model.registers=4", "objective.loss=hybrid"),
    ("1x32x32", "model=dit", "model.width=64", "model.heads=4", "model.depth=2", "model.mlp_ratio=1", "model.num_classes=9"),
)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_cost_of_a_pass_is_known_from_its_sizes(config: tuple[str, ...]) -> None:
    shape, *sets = config
    channels, height, width = map(int, shape.split("x"))
    network = build_network(load_config(sets=sets).config, (channels, height, width)).eval()
    place_network(network, CPU)

    @torch.no_grad()
    def compute(images: int) -> None:
        network(torch.zeros(images, channels, height, width), torch.zeros(images, dtype=torch.int64))

    found = network.pass_cost()
    traced = peak_memory(compute, CPU)
    assert 1.0 <= found.bytes / ((traced.at(2000) - traced.at(1000)) / 1000) <= 1.6
    assert found.flops == pytest.approx(forward_flops(network, (channels, height, width)), rel=0.005)
