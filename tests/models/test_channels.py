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
    pixels, grey = stem**2, torch.randn(2, 1, 16, 16, dtype=torch.float64)
    reads, writes = (torch.randn(shape, dtype=torch.float64) for shape in ((5, before * pixels, 3, 3), (before * pixels, 5, 3, 3)))
    there, here = (ImageAxis(1, count, pixels) for count in (before, now))
    read = with_channels(reads, there, here, torch.randn(5, now * pixels, 3, 3, dtype=torch.float64))
    features = conv2d(pixel_unshuffle(grey.expand(-1, before, -1, -1), stem), reads)
    torch.testing.assert_close(conv2d(pixel_unshuffle(grey.expand(-1, now, -1, -1), stem), read), features)

    there, here = (ImageAxis(0, count, pixels) for count in (before, now))
    written = with_channels(writes, there, here, torch.zeros(now * pixels, 5, 3, 3, dtype=torch.float64))
    was, is_now = (pixel_shuffle(conv2d(features, weight), stem) for weight in (writes, written))
    torch.testing.assert_close(is_now, was if before == now else was.mean(1, keepdim=True).expand_as(is_now))


def test_noise_that_is_independent_in_each_channel_is_read_as_strongly_and_channels_differ() -> None:
    torch.manual_seed(0)
    grey, axis = torch.randn(5, 4, 3, 3), ImageAxis(1, 1, 4)
    read = with_channels(grey, axis, ImageAxis(1, 3, 4), torch.randn(5, 12, 3, 3)).reshape(5, 3, 4, 3, 3)
    torch.testing.assert_close(read.square().sum(1), grey.square())
    torch.testing.assert_close(read.sum(1), grey)
    assert all((read[:, one] - read[:, other]).abs().max() > 0.1 for one, other in ((0, 1), (0, 2), (1, 2)))


def test_a_variance_is_left_out_and_a_new_one_keeps_its_own_numbers() -> None:
    bias, own = torch.arange(4.0), torch.full((4,), 9.0)
    both, mean = ImageAxis(0, 2, 1, parts=2), ImageAxis(0, 2, 1)
    assert with_channels(bias, both, mean, own[:2]).tolist() == [0, 1]
    assert with_channels(bias[:2], mean, both, own).tolist() == [0, 1, 9, 9]
