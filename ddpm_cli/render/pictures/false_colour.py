"""Show images of any number of channels in colours."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

OF_TWO = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""Magenta and green, which together make grey, so that equal channels have no colour."""
ALREADY_COLOUR = (3, 4)


def false_colour(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show channels as colours.

    One channel is grey, and two are magenta and green. Three, and the first three of four, stay as they are. More take hues that
    are evenly spaced from red on, channel by channel; where all of them are white the picture is white.

    Args:
        values: uint8 [N, C, H, W].
    Returns:
        uint8 [N, 3, H, W].
    """
    channels = values.shape[1]
    if channels == 1:
        return np.repeat(values, 3, axis=1)
    if channels in ALREADY_COLOUR:
        return values[:, :3]
    colours = OF_TWO if channels == 2 else _hues(channels)
    mixed = np.einsum("nchw,cd->ndhw", values.astype(np.float64), colours / colours.sum(0))
    shown: NDArray[np.uint8] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return shown


def _hues(channels: int) -> NDArray[np.float64]:
    """Evenly spaced saturated colours, [C, 3], from red by way of green and blue."""
    return np.array([colorsys.hsv_to_rgb(number / channels, 1.0, 1.0) for number in range(channels)])
