"""Bring arguments of the Python interface to the terms of the config. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddpm_cli.config.resolve.outline import NONE
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import RequestError

Settings = Mapping[str, object]
"""Fields of the config by dotted key, such as {"schedule.kind": "cosine", "optimizer.lr": 1e-3}; see `ddpm config show`."""


def as_sets(settings: Settings | None) -> list[str]:
    """Write the texts of `--set` that say the same; a mapping as a value holds the keys below its own."""
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
    for key, _ in _flat(settings or {}):
        if not key.startswith("sample."):
            raise RequestError(f"{key} in set belongs to training; the model is trained.", "Only sample.* can be set here.")
    return as_sets(settings)


def as_argument(name: str) -> str:
    """Spell the name of an argument as Python does."""
    return name


def as_path(path: str | Path | None, name: str) -> Path | None:
    """Take the path that the argument of this name stands for, see `paths.user_path`."""
    return None if path is None else user_path(path, name)
