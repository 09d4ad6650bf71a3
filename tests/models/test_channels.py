"""Convolutions for other channels: a grey picture keeps its response, and nothing is mixed up behind a stem."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from ddpm_cli.models.base import ImageAxis
from ddpm_cli.models.channels import with_channels


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize(("before", "now"), [(1, 3), (3, 1), (3, 4), (2, 2)])
def test_a_grey_picture_is_read_and_written_as_before(before: int, now: int, stem: int) -> None:
    torch.manual_seed(0)
    pixels, grey = stem**2, torch.randn(2, 1, 16, 16)
    reads, writes = torch.randn(5, before * pixels, 3, 3), torch.randn(before * pixels, 5, 3, 3)
    there, here = (ImageAxis(1, count, pixels) for count in (before, now))
    read = with_channels(reads, there, here, torch.randn(5, now * pixels, 3, 3))
    features = conv2d(pixel_unshuffle(grey.expand(-1, before, -1, -1), stem), reads)
    torch.testing.assert_close(conv2d(pixel_unshuffle(grey.expand(-1, now, -1, -1), stem), read), features)

    there, here = (ImageAxis(0, count, pixels) for count in (before, now))
    written = with_channels(writes, there, here, torch.zeros(now * pixels, 5, 3, 3))
    was, is_now = (pixel_shuffle(conv2d(features, weight), stem) for weight in (writes, written))
    torch.testing.assert_close(is_now, was if before == now else was.mean(1, keepdim=True).expand_as(is_now))


def test_a_variance_is_left_out_and_a_new_one_keeps_its_own_numbers() -> None:
    bias, own = torch.arange(4.0), torch.full((4,), 9.0)
    both, mean = ImageAxis(0, 2, 1, parts=2), ImageAxis(0, 2, 1)
    assert with_channels(bias, both, mean, own[:2]).tolist() == [0, 1]
    assert with_channels(bias[:2], mean, both, own).tolist() == [0, 1, 9, 9]
