"""state.json of a checkpoint: what stands in it must be of its kind, because anyone may have edited it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeGuard

from ddpm_cli.errors import CheckpointError
from ddpm_cli.files import UnreadableError, printable

LARGEST_COUNT = 10**15
"""Of steps, updates or seconds: larger ones leave the exact range of floats."""

_LAUNCH = {"processes", "threads", "device", "torch"}
_LAUNCH_TODAY = _LAUNCH | {"precision", "kernels"}
_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
_SPANS = {"interval", "epoch"}


class State(dict[str, Any]):
    """The content of state.json, in which a key that is missing is an error of the checkpoint.

    Args:
        values: The content.
        source: The file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        super().__init__(values)
        self._source = source

    def __missing__(self, key: str) -> NoReturn:
        raise CheckpointError(
            f"{self._source} lacks {printable(key)!r}.", "Use another checkpoint, or the ddpm that wrote this one."
        )


def check_state(values: Mapping[str, Any]) -> None:
    """Refuse values of another kind than training writes; keys that are not known are left alone.

    Raises:
        UnreadableError: Naming the key.
    """
    for key, (kind, is_sound) in _KINDS.items():
        if key in values and not is_sound(values[key]):
            raise UnreadableError(f"has no {kind} under {key!r}")


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number from 0 to LARGEST_COUNT."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def _is_number(value: Any) -> bool:
    """A loss may be infinite or NaN, which Python's JSON has words for; a whole number may not exceed a float."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_COUNT
    return whole or isinstance(value, float)


def _is_duration(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and 0 <= value <= LARGEST_COUNT


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_count(side) and side > 0 for side in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_scaler(value: Any) -> bool:
    if value is None or value == {}:
        return True
    if not isinstance(value, dict) or value.keys() != _SCALER:
        return False
    numbers = all(_is_duration(value[name]) for name in ("scale", "growth_factor", "backoff_factor"))
    counts = is_count(value["growth_interval"]) and is_count(value["_growth_tracker"])
    return numbers and counts and value["scale"] > 0 and 0 < value["backoff_factor"] < 1 < value["growth_factor"]


def _is_count_or_none(value: Any) -> bool:
    return value is None or is_count(value)


def _is_health(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != _HEALTH.keys():
        return False
    return all(is_sound(value[key]) for key, is_sound in _HEALTH.items())


def _are_losses(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(loss) and math.isfinite(loss) for loss in value)


def _is_launch(value: Any) -> bool:
    if not isinstance(value, dict) or not _LAUNCH <= value.keys() <= _LAUNCH_TODAY:
        return False
    return all(is_count(value[key]) if key in ("processes", "threads") else _is_text(value[key]) for key in value)


def _by_span(is_sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and value.keys() == _SPANS and all(map(is_sound, value.values()))


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and all(map(_is_cell, row.values())) for row in value)


def _is_cell(value: Any) -> bool:
    return _is_text(value) or _is_number_or_none(value)


_HEALTH: dict[str, Callable[[Any], bool]] = {
    "losses": _are_losses,
    "non_finite_in_a_row": is_count,
    "skipped_in_a_row": is_count,
    "trouble_since": _is_count_or_none,
    "calm_steps": is_count,
    "ordinary_loss": _is_number,
}

_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "step": ("count", is_count),
    "seconds": ("duration", _is_duration),
    "image_shape": ("channels, height and width", _is_shape),
    "data_sha256": ("text", _is_text),
    "class_names": ("list of names", _are_texts),
    "ema_updates": ("count", is_count),
    "scaler": ("state of a gradient scaler", _is_scaler),
    "loss_sums": ("number for each span", _by_span(_is_number)),
    "loss_steps": ("count for each span", _by_span(is_count)),
    "history": ("list of rows", _are_rows),
    "last_loss": ("number", _is_number_or_none),
    "last_held_out_loss": ("number", _is_number_or_none),
    "best_held_out_loss": ("number", _is_number_or_none),
    "held_out_step": ("count", _is_count_or_none),
    "best_saved_loss": ("number", _is_number_or_none),
    "non_finite_steps": ("count", is_count),
    "health": ("record of the last steps", _is_health),
    "launch": ("processes, threads, device, precision, kernels and torch version", _is_launch),
    "grad_norm": ("number", _is_number),
    "after_step_is_due": ("true or false", lambda value: isinstance(value, bool)),
}
