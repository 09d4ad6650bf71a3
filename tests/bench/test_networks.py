"""The networks of other libraries: diffusers' is the very same function as ours, or it is said why not."""

from __future__ import annotations

import pytest
import torch
from repository import ROOT
from torch import nn

from ddpm_cli.bench.networks import OneResult, Shape, dit2d, padded, unet2d
from ddpm_cli.bench.subject import image_shape
from ddpm_cli.build.network import build_model
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.model import DitConfig, UNetConfig
from ddpm_cli.errors import RequestError
from ddpm_cli.interop.diffusers.dit import to_dit
from ddpm_cli.models.cost import forward_flops, parameter_count
from ddpm_cli.sampling.diffusers.unet2d_names import to_unet2d

EXAMPLE = ROOT / "examples" / "benchmarks" / "unet2d.toml"
SMALL = UNetConfig(stem=1, base_channels=8, channel_mult=(1, 2, 2), blocks_per_level=1, attention_resolutions=(4, 8), norm_groups=4)


def give_random_weights(network: nn.Module) -> None:
    """None of which is 0 or 1."""
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draws)


def norm_epsilons(network: nn.Module) -> set[float]:
    return {module.eps for module in network.modules() if isinstance(module, nn.GroupNorm)}


def assert_same(model: UNetConfig | DitConfig, shape: Shape) -> None:
    build, rename = (dit2d, to_dit) if isinstance(model, DitConfig) else (unet2d, to_unet2d)
    nearest = build(model, shape)
    assert nearest.differences == ()
    assert nearest.image_shape == shape
    ours, theirs = build_model(model, shape).eval(), nearest.network.eval()
    assert norm_epsilons(ours) == norm_epsilons(theirs)
    give_random_weights(ours)
    theirs.load_state_dict(rename(ours.state_dict()))
    x, t = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 500, 999])
    with torch.no_grad():
        found, expected = ours(x, t), OneResult(theirs)(x, t)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_the_example_is_the_network_of_diffusers() -> None:
    config = load_config(file=EXAMPLE).config
    shape = image_shape(config.data)
    assert shape == (1, 32, 32)
    assert_same(config.model, shape)
    network = build_model(config.model, shape)
    assert parameter_count(network) == 6_469_889
    assert forward_flops(network, shape) == pytest.approx(2.96e9, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_heads": 2},
        {"scale_shift_norm": True, "dropout": 0.2},
        {"middle_attention": False, "attention_resolutions": ()},
        {"blocks_per_level": 2, "attention_resolutions": (16,)},
        {"norm_eps": 1e-3, "downsample_padding": "asymmetric", "time_frequencies": "transformer"},
    ],
)
def test_other_networks_are_the_same_too(changes: dict[str, object]) -> None:
    assert_same(SMALL.model_copy(update=changes), (3, 16, 24))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"stem": 2}, "no stem, so 4 times the pixels"),
        ({"num_classes": 10}, "no class labels"),
        ({"channel_mult": (2, 4)}, "before the first level"),
        ({"norm_groups": 16}, "groups in every norm"),
        ({"attention_heads": 2, "attention_resolutions": (16, 8)}, "channels in each head"),
    ],
)
def test_what_diffusers_cannot_express_is_told(changes: dict[str, object], word: str) -> None:
    nearest = unet2d(SMALL.model_copy(update={"attention_resolutions": ()} | changes), (1, 16, 16))
    assert any(word in difference for difference in nearest.differences)
    with torch.no_grad():
        assert nearest.network(torch.zeros(1, 1, 16, 16), 0).sample.shape == (1, 1, 16, 16)


def test_peers_get_images_as_large_as_ours_are_padded_to() -> None:
    assert padded(SMALL, (1, 29, 28)) == (1, 32, 28)
    nearest = unet2d(SMALL.model_copy(update={"attention_resolutions": ()}), (1, 29, 28))
    assert nearest.differences == ("padding inside the network",)
    assert nearest.image_shape == (1, 32, 28)


@pytest.mark.parametrize("changes", [{}, {"patch_size": 2, "heads": 4, "dropout": 0.2}])
def test_the_transformer_of_diffusers_is_the_same_too(changes: dict[str, object]) -> None:
    model = DitConfig(width=16, depth=2, heads=2, patch_size=4).model_copy(update=changes)
    assert_same(model, (3, 16, 16))
    ours, theirs = build_model(model, (3, 16, 16)), dit2d(model, (3, 16, 16)).network
    assert parameter_count(ours) == parameter_count(theirs)


def test_what_sets_the_transformer_of_diffusers_apart_is_told() -> None:
    model = DitConfig(width=16, depth=1, heads=2, registers=2, mlp_ratio=2, num_classes=3)
    assert dit2d(model, (1, 8, 8)).differences == ("no class labels", "perceptrons 4 times as wide as the tokens", "no registers")
    with pytest.raises(RequestError, match="square images alone, not 8x12"):
        dit2d(model, (1, 8, 12))
