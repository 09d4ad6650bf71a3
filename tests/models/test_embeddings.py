from __future__ import annotations

import math

import pytest
import torch

from ddpm_cli.models.embeddings import TimeEmbedding, sinusoidal_embedding


@pytest.mark.parametrize("channels", [4, 32, 33, 128])
def test_sinusoidal_embedding_is_hos_formula(channels: int) -> None:
    steps = [0, 1, 17, 500, 999]
    half = channels // 2
    expected = [
        [math.sin(t * 10_000 ** (-i / (half - 1))) for i in range(half)]
        + [math.cos(t * 10_000 ** (-i / (half - 1))) for i in range(half)]
        + [0.0] * (channels % 2)
        for t in steps
    ]
    actual = sinusoidal_embedding(torch.tensor(steps), channels)
    torch.testing.assert_close(actual, torch.tensor(expected), atol=2e-4, rtol=0)


def test_two_channels_are_the_sine_and_cosine_of_a_scaled_level() -> None:
    embedding = TimeEmbedding(2, 16, "transformer", 0.5)
    seen: list[torch.Tensor] = []
    embedding.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    embedding(torch.tensor([0.0, 3.0, -2.5]))
    expected = [[math.sin(0.5 * level), math.cos(0.5 * level)] for level in (0.0, 3.0, -2.5)]
    torch.testing.assert_close(seen[0], torch.tensor(expected))


def test_fractional_noise_levels_are_not_rounded() -> None:
    embedded = sinusoidal_embedding(torch.tensor([0.25]), 8)
    assert embedded[0, 0].item() == pytest.approx(math.sin(0.25), abs=1e-6)


def test_int_and_float_noise_levels_agree() -> None:
    embedding = TimeEmbedding(8, 16)
    t = torch.tensor([0, 3, 999])
    torch.testing.assert_close(embedding(t), embedding(t.double()), atol=0, rtol=0)


def test_embedding_keeps_its_precision_under_autocast() -> None:
    t = torch.arange(1000)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = sinusoidal_embedding(t, 32)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, sinusoidal_embedding(t, 32))
