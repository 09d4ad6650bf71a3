"""Map stored pixels to what a network sees, and back: the scale is a property of the whole set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Stored = Literal["uint8", "uint16", "float32"]
"""How a set's pixels are kept: whole numbers in as few bits as hold them, all else in floats."""


@dataclass(frozen=True)
class Scale:
    """Say which stored values are black and white, that is -1 and 1.

    Attributes:
        low: Value that becomes -1.
        high: Value that becomes 1, larger than `low`.
        stored: How the values are kept.
    """

    low: float = 0.0
    high: float = 255.0
    stored: Stored = "uint8"

    @property
    def levels(self) -> int | None:
        """Count the values that a pixel may have, such as 256; None of floats, which have no smallest step."""
        return None if self.stored == "float32" else int(self.high - self.low) + 1

    def normalise(self, values: Tensor) -> Tensor:
        """Map stored values to float32, `low` to -1 and `high` to 1 (DDPM, Sec. 3.3, where they are 0 and 255)."""
        return (values.float() - self.low) / ((self.high - self.low) / 2) - 1.0

    def restore(self, x: Tensor) -> Tensor:
        """Map x to the nearest stored values, of the type `stored`; what lies outside of [-1, 1] is clamped. Undoes `normalise`."""
        import torch

        values = (x.float() + 1.0) * ((self.high - self.low) / 2) + self.low
        if self.stored == "float32":
            return values.clamp(self.low, self.high)
        return values.round().clamp(self.low, self.high).to(getattr(torch, self.stored))


USUAL = Scale()
"""Eight bits, from black to white."""
