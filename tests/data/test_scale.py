"""Stored values of any depth become [-1, 1] and come back, are shown in 8 bits, and say in files which they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_cli.data.batches import normalise, to_uint8
from ddpm_cli.data.scale import USUAL, VIEWED_AT_ONCE, Scale, scale_of

DEEP = (Scale(0, 4095, "uint16"), Scale(0, 65535, "uint16"), Scale(300, 1500, "uint16"), Scale(0, 1, "uint8"))


@pytest.mark.parametrize("scale", [USUAL, *DEEP], ids=str)
def test_every_whole_number_comes_back_as_it_was(scale: Scale) -> None:
    values = np.arange(int(scale.low), int(scale.high) + 1).astype(scale.stored)
    x = scale.normalise(torch.from_numpy(values))
    assert (x.dtype, float(x[0]), float(x[-1])) == (torch.float32, -1.0, 1.0)
    restored = scale.restore(x).numpy()
    assert restored.dtype == values.dtype
    np.testing.assert_array_equal(restored, values)
    assert scale.levels == len(values)
    outside = scale.restore(torch.tensor([-3.0, 3.0])).numpy()
    assert outside.tolist() == [int(scale.low), int(scale.high)]


def test_floats_come_back_to_the_rounding_of_float32() -> None:
    scale = Scale(-1.5, 700.25, "float32")
    values = torch.linspace(-1.5, 700.25, 10_001)
    assert float((scale.restore(scale.normalise(values)) - values).abs().max()) < 1e-4
    assert scale.levels is None


def test_a_range_beyond_the_stored_type_does_not_wrap_around() -> None:
    assert Scale(-100, 300, "uint8").restore(torch.tensor([-1.0, 1.0])).tolist() == [0, 255]


def test_the_usual_scale_is_the_arithmetic_of_before_to_the_bit() -> None:
    pixels = torch.arange(256).to(torch.uint8)
    assert torch.equal(normalise(pixels), pixels.float() / 127.5 - 1.0)
    x = torch.linspace(-1.2, 1.2, 4001)
    assert torch.equal(to_uint8(x), ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("scale", DEEP, ids=str)
def test_the_view_goes_from_black_to_white(scale: Scale) -> None:
    values = np.linspace(scale.low, scale.high, 64 * (VIEWED_AT_ONCE + 3)).astype(scale.stored).reshape(-1, 1, 8, 8)
    shown = scale.view_array(values)
    expected = (values.astype(float) - scale.low) * 255 / (scale.high - scale.low)
    assert shown.dtype == np.uint8
    assert float(abs(shown - expected).max()) <= 0.5 + 1e-3
    assert torch.equal(scale.view(torch.from_numpy(values)), torch.from_numpy(shown))


def test_the_view_of_8_bits_is_the_pixels_themselves() -> None:
    pixels = np.zeros((2, 1, 3, 3), np.uint8)
    assert USUAL.view_array(pixels) is pixels


@pytest.mark.parametrize("scale", [USUAL, *DEEP, Scale(-0.5, 2.25, "float32")], ids=str)
def test_what_a_file_says_is_read_again(scale: Scale) -> None:
    said = json.loads(json.dumps(scale.facts()))
    assert scale_of(said.get("scale")) == scale
    assert (said == {}) == (scale == USUAL)


@pytest.mark.parametrize(
    "value",
    [
        3,
        {"low": 0, "high": 1},
        {"low": 1, "high": 1, "stored": "uint8"},
        {"low": 0, "high": float("nan"), "stored": "uint8"},
        {"low": 0, "high": float("inf"), "stored": "float32"},
        {"low": 0, "high": 1e38, "stored": "float32"},
        {"low": 0, "high": 1, "stored": "float16"},
        {"low": 0, "high": 1, "stored": ["uint8"]},
        {"low": "0", "high": 1, "stored": "uint8"},
        {"low": False, "high": True, "stored": "uint8"},
    ],
)
def test_what_is_no_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no range"):
        scale_of(value)


def test_it_is_written_for_people() -> None:
    assert str(Scale(0, 4095, "uint16")) == "0 to 4,095 (uint16)"
    assert str(Scale(-0.5, 2.25, "float32")) == "-0.5 to 2.25 (float32)"
