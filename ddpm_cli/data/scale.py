"""Map stored pixels to what a network sees, and back: the scale is a property of the whole set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Stored = Literal["uint8", "uint16", "float32"]
"""How a set's pixels are kept: whole numbers in as few bits as hold them, all else in floats; the narrowest first."""
STORED: tuple[Stored, ...] = get_args(Stored)
LARGEST = 1e30
"""Ends of a range are smaller, so that float32 holds all that is reckoned with them."""
MOST_WRITTEN_OUT = 1e9
"""Larger whole numbers are written with an exponent."""
VIEWED_AT_ONCE = 1024
"""Images that are turned into 8 bits at a time: each takes 4 bytes a value meanwhile."""


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
        stored = getattr(torch, self.stored)
        least, most = torch.iinfo(stored).min, torch.iinfo(stored).max
        return values.round().clamp(max(self.low, least), min(self.high, most)).to(stored)

    def view(self, values: Tensor) -> Tensor:
        """Show stored values in 8 bits, uint8, `low` as 0 and `high` as 255: what screens and the networks of metrics look at."""
        return values if self == USUAL else USUAL.restore(self.normalise(values))

    def view_array(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Show stored values [N, C, H, W] in 8 bits, see `view`; the usual ones as they are, be they mapped from a file."""
        if self == USUAL:
            return values
        import numpy as np
        import torch

        shown = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), VIEWED_AT_ONCE):
            rows = slice(start, start + VIEWED_AT_ONCE)
            shown[rows] = self.view(torch.from_numpy(np.ascontiguousarray(values[rows]))).numpy()
        return shown

    def facts(self) -> dict[str, Any]:
        """Write it for JSON, under the key "scale"; nothing for the usual one, which is meant where nothing is said."""
        return {} if self == USUAL else {"scale": asdict(self)}

    def __str__(self) -> str:
        return f"{_written(self.low)} to {_written(self.high)} ({self.stored})"


USUAL = Scale()
"""Eight bits, from black to white."""
OF_MIXED_DEPTHS = Scale(0.0, 65535.0, "uint16")
"""That of sets whose pictures differ in depth, where the values of each are multiplied by what makes white of its own white."""


def scale_of(value: Any) -> Scale:
    """Read what `Scale.facts` wrote; None is the usual one.

    Raises:
        ValueError: If it is no scale.
    """
    if value is None:
        return USUAL
    if not isinstance(value, dict) or set(value) != {"low", "high", "stored"} or value["stored"] not in STORED:
        raise ValueError("no range of pixels")
    low, high = value["low"], value["high"]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < LARGEST for end in (low, high))
    if not numbers or not low < high:
        raise ValueError("no range of pixels")
    return Scale(float(low), float(high), value["stored"])


def _written(end: float) -> str:
    return f"{end:,.0f}" if float(end).is_integer() and abs(end) < MOST_WRITTEN_OUT else f"{end:.7g}"
