"""Parse `data.range`, which says what values of a set are black and white."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from ddpm_cli.core.names import plain
from ddpm_cli.data.scale import LARGEST, MOST_WRITTEN_OUT

_PERCENTILES = re.compile(r"(\d+(?:\.\d+)?)%\s*\.\.\s*(\d+(?:\.\d+)?)%")
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_VALUES = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})")


def parse_range(value: Any) -> str | tuple[float, float]:
    """Parse "auto", "dtype", percentiles such as "1%..99%", or two values, a list or such as "0..4095"."""
    if isinstance(value, str):
        text = value.strip()
        if plain(text) in ("auto", "dtype"):
            return plain(text)
        if match := _PERCENTILES.fullmatch(text):
            _require_rising(float(match[1]), float(match[2]))
            if float(match[2]) > 100:
                raise ValueError(f"must be percentiles from 0% to 100%, not {text}")
            return f"{match[1]}%..{match[2]}%"
        if match := _VALUES.fullmatch(text):
            value = (float(match[1]), float(match[2]))
    numbers = isinstance(value, list | tuple) and len(value) == 2 and all(type(end) in (int, float) for end in value)
    if not numbers or not all(abs(end) < LARGEST for end in value):
        raise ValueError(f'must be "auto", "dtype", two values such as [0, 4095], or percentiles such as "1%..99%", not {value}')
    low, high = float(value[0]), float(value[1])
    _require_rising(low, high)
    return low, high


def _require_rising(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"must begin below where it ends, and {low:g} is not below {high:g}")


def range_text(value: str | tuple[float, float]) -> str:
    """Write a range so that `parse_range` reads the same."""
    if isinstance(value, str):
        return value
    return "..".join(str(int(end)) if float(end).is_integer() and abs(end) < MOST_WRITTEN_OUT else repr(end) for end in value)


ValueRange = Annotated[str | tuple[float, float], PlainValidator(parse_range), PlainSerializer(range_text, when_used="json")]
"""Two values, or the text of what finds them."""
