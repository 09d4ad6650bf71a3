"""Which values are black and white, and what is said of it."""

from __future__ import annotations

import pytest

from ddpm_cli.data.ranges import BITS_16, FLOATS, Kind, Values, choose_scale


@pytest.mark.parametrize(
    ("kind", "high", "used"),
    [
        (BITS_16, 4063, "use 6.2 % of 0 to 65,535"),
        (BITS_16, 400, "use 0.61 % of 0 to 65,535"),
        (FLOATS, 100, "use 39 % of 0 to 255"),
    ],
)
def test_how_much_of_its_container_a_set_uses_is_a_percentage(kind: Kind, high: float, used: str) -> None:
    scale, notice = choose_scale("auto", Values(kind, 0, high))
    assert (scale.low, scale.high) == (0, high)
    assert used in notice
