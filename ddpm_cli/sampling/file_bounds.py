"""Bound what a run or a stranger's file may ask for. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

LIFT = "--no-limits"
HOUR, DAY = 3600.0, 86_400.0


@dataclass(frozen=True)
class Bounds:
    """Limit what a run or a file may ask for.

    Attributes:
        images: To draw, where the user names no number.
        seconds_an_image: For one image, where the user names no number of steps.
        seconds: In all, likewise.
        lifted: Whether the user wants it anyhow.
        lift: What is said of how to say so.
    """

    images: int = 10_000
    seconds_an_image: float = HOUR
    seconds: float = DAY
    lifted: bool = False
    lift: str = f", or lift the limit with {LIFT}"


USUAL = Bounds()
OWN = Bounds(images=10**18, seconds_an_image=math.inf, seconds=math.inf, lift="")
"""For what users ask for themselves: what the memory can never hold is refused, long work is told."""
