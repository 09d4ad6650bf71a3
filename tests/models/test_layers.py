from __future__ import annotations

import pytest
import torch
from torch import nn

from ddpm_cli.errors import ConfigError
from ddpm_cli.models.layers import ResidualBlock, SelfAttention, Upsample, conv, group_norm, linear


@pytest.mark.parametrize(
    ("channels", "most", "groups"), [(128, 32, 32), (48, 32, 24), (20, 32, 20), (7, 4, 1), (1, 32, 1), (6, 4, 3)]
)
def test_group_norm_takes_the_largest_divisor(channels: int, most: int, groups: int) -> None:
    norm = group_norm(channels, most)
    assert norm.num_groups == groups
    assert norm.eps == 1e-6


@pytest.mark.parametrize("layer", [conv(64, 128), linear(64, 128)])
def test_weights_start_with_variance_one_over_average_fan(layer: nn.Conv2d | nn.Linear) -> None:
    positions = layer.weight[0, 0].numel()
    fan_average = positions * (64 + 128) / 2
    # The standard error of a uniform sample's variance is below 1 % at 8192 weights.
    assert layer.weight.var().item() == pytest.approx(1 / fan_average, rel=0.05)
    assert layer.bias is not None
    assert not layer.bias.any()


def block(**changes: bool | float) -> ResidualBlock:
    options = {"dropout": 0.0, "scale_shift": False, "norm_groups": 4, **changes}
    return ResidualBlock(8, 8, 16, **options)  # type: ignore[arg-type]


def test_new_block_and_new_attention_pass_their_input_on() -> None:
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    assert torch.equal(block()(x, embedding), x)
    assert torch.equal(block(scale_shift=True)(x, embedding), x)
    assert torch.equal(SelfAttention(8, 2, 4)(x), x)


def test_dropout_acts_in_training_only() -> None:
    layer = block(dropout=0.5)
    nn.init.normal_(layer.conv_out.weight)
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    layer.train()
    assert not torch.equal(layer(x, embedding), layer(x, embedding))
    layer.eval()
    assert torch.equal(layer(x, embedding), layer(x, embedding))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_torchs_multi_head_attention(heads: int) -> None:
    layer = SelfAttention(8, heads, 4)
    nn.init.normal_(layer.project.weight)
    nn.init.normal_(layer.query.bias)
    oracle = nn.MultiheadAttention(8, heads, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        oracle.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        oracle.out_proj.weight.copy_(layer.project.weight)
        oracle.out_proj.bias.copy_(layer.project.bias)
    x = torch.randn(3, 8, 5, 7)
    pixels = layer.norm(x).permute(0, 2, 3, 1).reshape(3, 35, 8)
    expected = x + oracle(pixels, pixels, pixels)[0].reshape(3, 5, 7, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampling_repeats_pixels_and_convolves(memory_format: torch.memory_format) -> None:
    layer = Upsample(6).to(memory_format=memory_format)
    nn.init.normal_(layer.conv.bias)  # type: ignore[arg-type]  # there is a bias
    x = torch.randn(2, 6, 5, 3, requires_grad=True)
    repeated = layer.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    torch.testing.assert_close(layer(x), repeated, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(repeated)
    inputs = (x, *layer.parameters())
    found, expected = (torch.autograd.grad(result, inputs, direction) for result in (layer(x), repeated))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attention_heads \(3\) does not divide the 8 channels"):
        SelfAttention(8, 3, 4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cpu_autocast_normalises_in_float32(memory_format: torch.memory_format) -> None:
    """We rely on torch here: a sum of 2048 values near 30 in bfloat16 would be off by far more than the result's rounding."""
    norm = group_norm(32, 8)
    x = (30 + 0.5 * torch.randn(2, 32, 16, 16)).bfloat16().to(memory_format=memory_format)
    exact = group_norm(32, 8).double()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        actual = norm(x)
    rounding = (exact.bfloat16().double() - exact).abs().max()
    assert (actual.double() - exact).abs().max() <= 1.1 * rounding


def test_cpu_autocast_keeps_the_softmax_in_float32() -> None:
    torch.manual_seed(0)
    query, key, value = (2 * torch.randn(2, 1, 64, 32) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        actual = nn.functional.scaled_dot_product_attention(query, key, value).double()
    query, key, value = (tensor.bfloat16().double() for tensor in (query, key, value))
    exact = nn.functional.scaled_dot_product_attention(query, key, value)
    in_bfloat16 = (query.bfloat16() @ key.bfloat16().mT / 32**0.5).softmax(-1) @ value.bfloat16()
    assert (actual - exact).abs().max() < 0.5 * (in_bfloat16.double() - exact).abs().max()
