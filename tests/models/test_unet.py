from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import UNet2DModel

from ddpm_cli.errors import ConfigError, ShapeError
from ddpm_cli.models.base import recompute_blocks
from ddpm_cli.models.cost import parameter_count
from ddpm_cli.models.unet import UNet

if TYPE_CHECKING:
    from conftest import MakeUnet

DIFFUSERS_NAMES = (
    (r"^time_embedding\.mlp\.0", "time_embedding.linear_1"),
    (r"^time_embedding\.mlp\.2", "time_embedding.linear_2"),
    (r"^norm_out", "conv_norm_out"),
    (r"^middle_in\.block", "mid_block.resnets.0"),
    (r"^middle_in\.attention", "mid_block.attentions.0"),
    (r"^middle_out\.block", "mid_block.resnets.1"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.block", r"\1_blocks.\2.resnets.\3"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.attention", r"\1_blocks.\2.attentions.\3"),
    (r"^(down|up)\.(\d+)\.(down|up)sample\.conv", r"\1_blocks.\2.\3samplers.0.conv"),
    (r"^(down|up)\.(\d+)\.(down|up)sample\.block", r"\1_blocks.\2.\3samplers.0"),
    (r"(resnets\.\d+|samplers\.0)\.norm_in", r"\1.norm1"),
    (r"(resnets\.\d+|samplers\.0)\.conv_in", r"\1.conv1"),
    (r"(resnets\.\d+|samplers\.0)\.project", r"\1.time_emb_proj"),
    (r"(resnets\.\d+|samplers\.0)\.norm_out", r"\1.norm2"),
    (r"(resnets\.\d+|samplers\.0)\.conv_out", r"\1.conv2"),
    (r"(resnets\.\d+|samplers\.0)\.shortcut", r"\1.conv_shortcut"),
    (r"(attentions\.\d+)\.norm", r"\1.group_norm"),
    (r"(attentions\.\d+)\.query", r"\1.to_q"),
    (r"(attentions\.\d+)\.key", r"\1.to_k"),
    (r"(attentions\.\d+)\.value", r"\1.to_v"),
    (r"(attentions\.\d+)\.project", r"\1.to_out.0"),
)


def diffusers_name(name: str) -> str:
    for pattern, replacement in DIFFUSERS_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_same_weights_give_what_diffusers_gives(make_unet: MakeUnet, scale_shift: bool, memory_format: torch.memory_format) -> None:
    network = make_unet(
        in_channels=3,
        image_size=(16, 16),
        channel_mult=(1, 2, 3),
        blocks_per_level=2,
        attention_resolutions=(8,),
        attention_heads=1,
        scale_shift_norm=scale_shift,
    ).to(memory_format=memory_format)
    oracle = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16, 24),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        norm_eps=1e-6,
        freq_shift=1,
        flip_sin_to_cos=False,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    ).eval()
    oracle.load_state_dict({diffusers_name(name): tensor for name, tensor in network.state_dict().items()})
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0, 731])
    with torch.no_grad():
        expected = oracle(x, t).sample
        assert expected.std() > 0.1
        torch.testing.assert_close(network(x, t), expected, atol=1e-4, rtol=1e-4)


def test_residual_resampling_and_heads_of_one_width_give_what_diffusers_gives(make_unet: MakeUnet) -> None:
    network = make_unet(
        in_channels=3,
        image_size=(16, 16),
        attention_resolutions=(8, 16),
        attention_head_channels=4,
        resampling="residual",
        time_scale=0.25,
        time_frequencies="transformer",
    )
    oracle = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        norm_eps=1e-6,
        freq_shift=0,
        flip_sin_to_cos=False,
        downsample_type="resnet",
        upsample_type="resnet",
    ).eval()
    oracle.load_state_dict({diffusers_name(name): tensor for name, tensor in network.state_dict().items()})
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0, 731])
    with torch.no_grad():
        expected = oracle(x, t * 0.25).sample
        assert expected.std() > 0.1
        torch.testing.assert_close(network(x, t), expected, atol=1e-4, rtol=1e-4)


def test_heads_that_do_not_divide_the_channels_are_refused(make_unet: MakeUnet) -> None:
    with pytest.raises(ConfigError, match=r"attention_head_channels \(5\) does not divide the 16 channels"):
        make_unet(attention_head_channels=5)


def test_recomputing_a_residual_resampling_changes_no_gradient(make_unet: MakeUnet) -> None:
    network = make_unet(resampling="residual").train()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0, 731])
    gradients = []
    for recompute in (False, True):
        recompute_blocks(network, recompute)
        network.zero_grad()
        network(x, t).square().sum().backward()
        gradients.append(network.down[0].downsample.block.conv_in.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_hos_cifar10_model_has_its_number_of_parameters(make_unet: MakeUnet) -> None:
    network = make_unet(
        randomise=False,
        in_channels=3,
        image_size=(32, 32),
        base_channels=128,
        channel_mult=(1, 2, 2, 2),
        blocks_per_level=2,
        attention_resolutions=(16,),
        dropout=0.1,
        norm_groups=32,
    )
    assert parameter_count(network) == 35_746_307


@pytest.mark.parametrize("image_size", [(1, 1), (2, 9), (5, 7), (28, 28), (33, 31)])
@pytest.mark.parametrize("stem", [1, 2, 4])
def test_any_size_and_stem(make_unet: MakeUnet, image_size: tuple[int, int], stem: int) -> None:
    network = make_unet(image_size=image_size, stem=stem)
    output = network(torch.randn(2, 1, *image_size), torch.tensor([0, 999]))
    assert output.shape == (2, 1, *image_size)
    assert output.isfinite().all()


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("out_channels", [None, 1, 6])
@pytest.mark.parametrize("stem", [1, 2])
def test_any_channels(make_unet: MakeUnet, in_channels: int, out_channels: int | None, stem: int) -> None:
    network = make_unet(in_channels=in_channels, out_channels=out_channels, stem=stem)
    output = network(torch.randn(2, in_channels, 8, 8), torch.tensor([0, 999]))
    assert output.shape == (2, out_channels or in_channels, 8, 8)


def test_one_level(make_unet: MakeUnet) -> None:
    network = make_unet(channel_mult=(2,), image_size=(3, 3), attention_resolutions=(3,))
    assert network(torch.randn(2, 1, 3, 3), torch.tensor([0, 9])).shape == (2, 1, 3, 3)


@pytest.mark.parametrize("changes", [{}, {"stem": 2}, {"scale_shift_norm": True}, {"attention_resolutions": (4,)}])
def test_new_network_predicts_exactly_zero(make_unet: MakeUnet, changes: dict[str, Any]) -> None:
    network = make_unet(randomise=False, image_size=(7, 7), **changes)
    assert not network(torch.randn(2, 1, 7, 7), torch.tensor([3, 500])).any()


@pytest.mark.parametrize("changes", [{}, {"scale_shift_norm": True}, {"stem": 2}, {"attention_resolutions": (8, 4)}])
def test_gradient_reaches_every_parameter(make_unet: MakeUnet, changes: dict[str, Any]) -> None:
    network = make_unet(**changes)
    network(torch.randn(2, 1, 8, 8), torch.tensor([3, 500])).square().sum().backward()
    untouched = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # A bias of the keys adds the same to all scores of a query, which the softmax takes out again.
    assert [name for name in untouched if not name.endswith("attention.key.bias")] == []


@pytest.mark.parametrize("changes", [{}, {"scale_shift_norm": True}])
def test_prediction_depends_on_image_and_noise_level(make_unet: MakeUnet, changes: dict[str, Any]) -> None:
    network = make_unet(**changes)
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([3])
    assert not torch.allclose(network(x, t), network(x + 1, t), atol=1e-3)
    assert not torch.allclose(network(x, t), network(x, t + 100), atol=1e-3)


def test_images_of_a_batch_do_not_mix(make_unet: MakeUnet) -> None:
    network = make_unet(attention_resolutions=(8, 4), image_size=(7, 6))
    x, t = torch.randn(5, 1, 7, 6), torch.tensor([0, 10, 100, 500, 999])
    together = network(x, t)
    for i in range(5):
        torch.testing.assert_close(network(x[i : i + 1], t[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)


def test_padding_is_zeros_around_and_its_output_is_cropped(make_unet: MakeUnet) -> None:
    small = make_unet(image_size=(5, 6), stem=2)
    padded = make_unet(image_size=(8, 8), stem=2)
    padded.load_state_dict(small.state_dict())
    x, t = torch.randn(2, 1, 5, 6), torch.tensor([3, 500])
    around = torch.zeros(2, 1, 8, 8)
    around[:, :, 1:6, 1:7] = x
    assert torch.equal(small(x, t), padded(around, t)[:, :, 1:6, 1:7])


def test_dropout_is_for_training(make_unet: MakeUnet) -> None:
    network = make_unet(dropout=0.5)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 500])
    assert torch.equal(network(x, t), network(x, t))
    network.train()
    assert not torch.equal(network(x, t), network(x, t))


def attention_modules(network: UNet) -> list[str]:
    return [name.removesuffix(".query") for name, _ in network.named_modules() if name.endswith(".query")]


def test_attention_is_where_it_was_asked_for(make_unet: MakeUnet) -> None:
    network = make_unet(image_size=(14, 30), stem=2, attention_resolutions=(4,), middle_attention=False)
    assert attention_modules(network) == ["down.1.stages.0.attention", "up.0.stages.0.attention", "up.0.stages.1.attention"]
    assert attention_modules(make_unet(middle_attention=True)) == ["middle_in.attention"]


def test_attention_height_that_does_not_exist_names_those_that_do(make_unet: MakeUnet) -> None:
    with pytest.raises(ConfigError, match="names 7, 14, but the feature maps are 16, 8, 4 high"):
        make_unet(image_size=(28, 28), stem=2, channel_mult=(1, 2, 2), attention_resolutions=(14, 8, 7))


def test_heads_must_divide_the_channels_of_each_attention(make_unet: MakeUnet) -> None:
    with pytest.raises(ConfigError, match=r"attention_heads \(3\)"):
        make_unet(attention_heads=3)
    make_unet(attention_heads=3, middle_attention=False)


def test_too_few_base_channels_are_refused(make_unet: MakeUnet) -> None:
    with pytest.raises(ConfigError, match="base_channels"):
        make_unet(base_channels=3)
    output = make_unet(base_channels=4)(torch.randn(1, 1, 8, 8), torch.tensor([3]))
    assert output.isfinite().all()


SINGLE_VALUES = (
    {"image_size": (4, 4), "channel_mult": (1, 1, 1), "base_channels": 32, "norm_groups": 32},
    {"image_size": (1, 1), "channel_mult": (1,), "norm_groups": 8},
    {"image_size": (1, 3), "channel_mult": (1,), "norm_groups": 8, "stem": 4},
    {"image_size": (2, 1), "channel_mult": (1, 2), "norm_groups": 64, "middle_attention": False},
    {"image_size": (8, 8), "channel_mult": (1, 1, 1, 2), "norm_groups": 8},  # the first norm down there alone
)


@pytest.mark.parametrize("sizes", SINGLE_VALUES)
def test_a_norm_of_one_value_is_refused_with_the_setting_to_change(make_unet: MakeUnet, sizes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"1x1 with .* a norm a single value") as refused:
        make_unet(**sizes)
    found = re.search(r"model\.norm_groups=(\d+) or fewer", refused.value.remedy)
    assert found is not None
    network = make_unet(**sizes | {"norm_groups": int(found[1])})
    assert network(torch.randn(1, 1, *sizes["image_size"]), torch.tensor([3])).isfinite().all()
    with pytest.raises(ConfigError):
        make_unet(**sizes | {"norm_groups": int(found[1]) + sizes.get("base_channels", 8)})


@pytest.mark.parametrize("shape", [(2, 1, 8, 7), (2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(make_unet: MakeUnet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"takes images of \[C, H, W\] = \[1, 8, 8\]"):
        make_unet()(torch.randn(shape), torch.tensor([3, 500]))


def test_half_precision_autocast_stays_close(make_unet: MakeUnet) -> None:
    network = make_unet(attention_resolutions=(8, 4))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 500])
    exact = network(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, t)
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()
