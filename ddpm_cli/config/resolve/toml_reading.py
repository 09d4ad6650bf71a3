"""Read TOML from strangers: as the standard library does, but for texts on which that would hang or fail oddly."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from ddpm_cli.core.io.files import UnreadableError

MOST_DOTS = 50
"""In one key: tomllib takes time that grows with the square of their number."""

# Possessive, so that the search itself takes time that grows with the length alone.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w\"'-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MOST_DOTS}}}")
_LONG_NUMBER = re.compile(r"\b0[xob][0-9A-Fa-f_]{1000}")  # Python reads such a number and then refuses to write it


def parse_toml(text: str) -> dict[str, Any]:
    """Parse the nested tables of a TOML text.

    Raises:
        UnreadableError: If it is no TOML, nested too deeply, or holds a number or a key of absurd length.
    """
    if _LONG_KEY.search(text):
        raise UnreadableError(f"has a key of more than {MOST_DOTS} parts")
    if _LONG_NUMBER.search(text):
        raise UnreadableError("has a number of thousands of digits")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python converts
        raise UnreadableError(f"TOML syntax error: {error}") from error
