"""Write numbers and settings as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.wording import counted

if TYPE_CHECKING:
    from ddpm_cli.results.outlook import Estimate, Outlook

SHA_DIGITS = 12
FIGURES = {"held_out_loss": "held-out loss", "loss": "training loss"}
"""What the log calls otherwise than people do."""
SHORT_SHA256 = 16
MOST_ITEMS = 8
"""Of a list that is shown in full."""


def duration(seconds: float) -> str:
    """Write seconds as `8 s`, `4 min 10 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def quantity(value: float, unit: str = "") -> str:
    """Write a number with three significant digits and a prefix: `35.7 M`, `0.215 GFLOP`."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def shape_text(height: int, width: int, channels: int) -> str:
    """Write `64x48, 3 channels`: height by width."""
    return f"{height}x{width}, {counted(channels, 'channel')}"


def loss(value: float | None) -> str:
    """Write a loss with five digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.5f}"


def compiling_line(seconds: float | None) -> str:
    """Say that compiling a network begins (None), or has taken so many seconds."""
    return "compiling the network, which may take minutes ..." if seconds is None else f"compiled in {duration(seconds)}"


def age(seconds: float) -> str:
    """Say how long ago something was, in its largest unit: `40 s`, `5 min`, `3 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def number(value: float | None) -> str:
    """Write a figure with five significant digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.5g}"


def with_error(value: float, error: float) -> str:
    """Write a number and its error in plain digits, as many as leave the error one that tells: `0.00107 +- 0.00006`."""
    places = 4 if not error > 0 else min(12, max(0, -math.floor(math.log10(error))))
    return f"{value:.{places}f} +- {error:.{places}f}"


def setting(value: Any) -> str:
    """Write the value of a setting; a long list by its length, a checksum by its first digits, a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return f"{len(value):,} values" if len(value) > MOST_ITEMS else f"[{', '.join(map(setting, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    text = str(value)
    return text[:SHA_DIGITS] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def last_tenth(outlook: Outlook) -> str:
    """Say what the last tenth of the time gained, or why that cannot be told."""
    if outlook.last_tenth is None or outlook.now is None:
        return f"of the time: cannot be told, {outlook.why}"
    return f"of the time gained {gained(outlook, outlook.last_tenth)}"


def at_twice(outlook: Outlook) -> str:
    """Say what twice the time would give, or why that cannot be told."""
    if outlook.twice is None or outlook.at_twice is None:
        return f"the time: cannot be told, {outlook.why}"
    there = f"the time would give {with_error(outlook.at_twice.value, outlook.at_twice.error)}"
    return f"{there}, a gain of {gained(outlook, outlook.twice)}" + (f"; {outlook.caution}" if outlook.caution else "")


def gained(outlook: Outlook, gain: Estimate) -> str:
    """Say a gain with its error, and what part of the figure it is."""
    share = f" ({gain.value / abs(outlook.now):.1%})" if outlook.now else ""
    return f"{with_error(gain.value, gain.error)} of {FIGURES.get(outlook.figure, outlook.figure)}{share}"
