"""Bound what a run or a stranger's file may ask for. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ddpm_cli.core.asking import as_option

HOUR, DAY = 3600.0, 86_400.0


@dataclass(frozen=True)
class Bounds:
    """Limit what a run or a file may ask for.

    Attributes:
        images: To draw, where the user names no number.
        seconds_an_image: For one image, where the user names no number of steps.
        seconds: In all, likewise.
        lifted: Whether the user wants it anyhow.
        liftable: Whether that can be said.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
    """

    images: int = 10_000
    seconds_an_image: float = HOUR
    seconds: float = DAY
    lifted: bool = False
    liftable: bool = True
    spelt: Callable[[str], str] = as_option

    @property
    def lift(self) -> str:
        """Say how to lift them, as the end of a remedy."""
        return f", or lift the limit with {self.spelt('no_limits')}" if self.liftable else ""


USUAL = Bounds()
OWN = Bounds(images=10**18, seconds_an_image=math.inf, seconds=math.inf, liftable=False)
"""For what users ask for themselves: what the memory can never hold is refused, long work is told."""
