"""Make readable names for the arms of a sweep, which are also names of folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 80
NO_SETTINGS = "base"


def arm_name(label: str, point: Mapping[str, Any], taken: Sequence[str]) -> str:
    """Name an arm by its label, then by what it has of the grid, as in `cosine-lr-0.001`.

    Args:
        label: Given by hand, or empty.
        point: Dotted key to value.
        taken: Names of other arms, from which this one is told apart by a number if need be.
    """
    parts = [label, *(_part(key, value) for key, value in point.items())]
    name = "-".join(part for part in parts if part)[:LONGEST] or NO_SETTINGS
    used = {other.casefold() for other in taken}  # many file systems do not tell A from a
    numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate.casefold() not in used)


def _part(key: str, value: Any) -> str:
    """A word says enough by itself; a number needs its key."""
    text = _legal(_text(value))
    if isinstance(value, dict) or (isinstance(value, str) and value != "none"):
        return text
    *parents, name = key.split(".")
    return f"{parents[-1] if name == 'kind' and parents else name}-{text}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        sign, size = "minus" if value < 0 else "", abs(value)  # a name keeps no other sign: 1e+06 would end as 1e-06
        return sign + (str(size) if isinstance(size, int) else f"{size:g}".replace("e+0", "e").replace("e+", "e"))
    if isinstance(value, list):
        return "_".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        kind = [_text(value["kind"])] if "kind" in value else []
        return "-".join([*kind, *(f"{name}-{_text(inner)}" for name, inner in value.items() if name != "kind")])
    return str(value)


def _legal(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "x"
