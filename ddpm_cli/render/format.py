"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as `8 s`, `4 min 10 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def quantity(value: float, unit: str = "") -> str:
    """A number with three significant digits and a prefix: `35.7 M`, `0.215 GFLOP`."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def loss(value: float | None) -> str:
    """A loss with five digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.5f}"


def compiling_line(seconds: float | None) -> str:
    """What to say when compiling a network begins (None), and when it has taken so many seconds."""
    return "compiling the network, which may take minutes ..." if seconds is None else f"compiled in {duration(seconds)}"


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit: `40 s`, `5 min`, `3 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
