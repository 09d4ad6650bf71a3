"""Bring arguments of the Python interface to the terms of the config. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ddpm_cli.config.resolve.outline import NONE
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import RequestError

LONGEST_SHOWN = 80
"""Characters of a value in a message."""

Settings = Mapping[str, object]
"""Fields of the config by dotted key, such as {"schedule.kind": "cosine", "optimizer.lr": 1e-3}; see `ddpm config show`."""


def as_sets(settings: Settings | None) -> list[str]:
    """Write the texts of `--set` that say the same; a mapping as a value holds the keys below its own.

    Raises:
        RequestError: If it is no mapping.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise RequestError(f"set must map keys to values, not {_shown(settings)}.", 'Write for example {"optimizer.lr": 1e-3}.')
    return [f"{key}={_toml(value)}" for key, value in _flat(settings or {})]


def _flat(settings: Mapping[Any, object], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _toml(value: object) -> str:
    # Of these values, JSON's spelling is TOML's too.
    return NONE if value is None else json.dumps(value, ensure_ascii=False, default=str)


def sampling_sets(settings: Settings | None) -> list[str]:
    """Write the same of settings that change how a trained model samples.

    Raises:
        RequestError: If one changes anything else.
    """
    sets = as_sets(settings)
    for text in sets:
        if not text.startswith("sample."):
            key = text.partition("=")[0]
            raise RequestError(f"{key} in set belongs to training; the model is trained.", "Only sample.* can be set here.")
    return sets


def as_argument(name: str) -> str:
    """Spell the name of an argument as Python does."""
    return name


def as_path(path: object, name: str) -> Path | None:
    """Take the path that the argument of this name stands for; None for None."""
    return None if path is None else as_given_path(path, name)


def as_given_path(path: object, name: str) -> Path:
    """Take the path that the argument of this name must stand for.

    Raises:
        RequestError: If it is none, see `paths.user_path`.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise RequestError(f"{name} must be a path, not {_shown(path)}.", "Give a text or a pathlib.Path.")
    return user_path(path, name)


def as_whole(value: object, name: str, least: int = 1, most: int | None = None) -> int:
    """Take the whole number that the argument of this name stands for, one of Python or of NumPy.

    Raises:
        RequestError: If it is none, below `least` or above `most`.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise RequestError(f"{name} must be a whole number, not {_shown(value)}.", "Give a whole number.")
    number = int(value)
    if number < least:
        raise RequestError(f"{name} must be at least {least}, not {number:,}.", "Give a larger number.")
    if most is not None and number > most:
        raise RequestError(f"{name} must be at most {most:,}, not {number:,}.", "Give a smaller number.")
    return number


def as_number(value: object, name: str) -> float:
    """Take the number that the argument of this name stands for, one of Python or of NumPy.

    Raises:
        RequestError: If it is none.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise RequestError(f"{name} must be a number, not {_shown(value)}.", "Give a number.")
    return float(value)


def as_text(value: object, name: str) -> str:
    """Take the text that the argument of this name stands for.

    Raises:
        RequestError: If it is none.
    """
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a text, not {_shown(value)}.", "Write it in quotes.")
    return value


def as_list(values: object, name: str) -> list[object]:
    """Take the list that the argument of this name stands for; a text is none.

    Raises:
        RequestError: If it is none.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise RequestError(f"{name} must be a list, not {_shown(values)}.", "Put it in [ and ].")
    return list(values)


def as_share(value: object, name: str) -> float:
    """Take the share in [0, 1] that the argument of this name stands for.

    Raises:
        RequestError: If it is none.
    """
    number = as_number(value, name)
    if not 0 <= number <= 1:
        raise RequestError(f"{name} must be in [0, 1], not {number:g}.", "Give another number.")
    return number


def _shown(value: object) -> str:
    """A value in a message: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
