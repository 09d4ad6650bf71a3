"""Check state.json of a checkpoint: what stands in it must be of its kind, because anyone may have edited it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, NotRequired, TypeGuard, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ddpm_cli.core.io.files import UnreadableError, printable
from ddpm_cli.data.scale import Scale, scale_of
from ddpm_cli.errors import CheckpointError

LARGEST_COUNT = 10**15
"""Of steps, updates or seconds: larger ones leave the exact range of floats."""
MOST_VALUES = 2**26
"""Of one image, 4096x4096 with four channels: more would fill the memory before any network does."""

Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Whole = Annotated[int, Field(ge=-LARGEST_COUNT, le=LARGEST_COUNT)]
Number = Whole | float
"""A loss may be infinite or NaN, which Python's JSON has words for; a whole number may not exceed a float."""
Finite = Whole | Annotated[float, Field(allow_inf_nan=False)]
Duration = Count | Annotated[float, Field(ge=0, le=LARGEST_COUNT, allow_inf_nan=False)]
"""Seconds."""
Side = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
KNOWN_KEYS_ALONE = ConfigDict(strict=True, extra="forbid")


class State(dict[str, Any]):
    """Hold the content of state.json, in which a key that is missing is an error of the checkpoint.

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


@with_config(KNOWN_KEYS_ALONE)
class HealthState(TypedDict):
    """Hold what `Health` remembers of the last steps."""

    losses: list[Finite]
    non_finite_in_a_row: Count
    skipped_in_a_row: Count
    trouble_since: Count | None
    calm_steps: Count
    ordinary_loss: Number


@with_config(KNOWN_KEYS_ALONE)
class LaunchState(TypedDict):
    """Hold how a session was started; earlier versions knew neither precision nor kernels."""

    processes: Count
    threads: Count
    device: str
    torch: str
    precision: NotRequired[str]
    kernels: NotRequired[str]


@with_config(KNOWN_KEYS_ALONE)
class ScalerState(TypedDict):
    """Hold a gradient scaler's `state_dict`."""

    scale: Annotated[float, Field(gt=0, le=LARGEST_COUNT)]
    growth_factor: Annotated[float, Field(gt=1, le=LARGEST_COUNT)]
    backoff_factor: Annotated[float, Field(gt=0, lt=1)]
    growth_interval: Count
    _growth_tracker: Count


@with_config(KNOWN_KEYS_ALONE)
class NoState(TypedDict):
    """Hold the `state_dict` of a scaler that is switched off."""


@with_config(KNOWN_KEYS_ALONE)
class PatienceState(TypedDict):
    """Hold what `train.patience` keeps beside the evaluations themselves, which are tensors."""

    evaluations: Count
    stopped: bool


@with_config(KNOWN_KEYS_ALONE)
class LossSums(TypedDict):
    """Hold sums of losses over the steps of each span."""

    interval: Number
    epoch: Number


@with_config(KNOWN_KEYS_ALONE)
class LossSteps(TypedDict):
    """Hold the steps of each span."""

    interval: Count
    epoch: Count


@with_config(KNOWN_KEYS_ALONE)
class SinceState(TypedDict):
    """Hold from where on a run has its images; one whose images never changed says nothing."""

    step: Count
    epochs: Duration


@with_config(KNOWN_KEYS_ALONE)
class ScaleState(TypedDict):
    """Hold which values pixels are stored in, and which are -1 and 1; one of the usual 8 bits says nothing."""

    low: Finite
    high: Finite
    stored: str


@with_config(ConfigDict(strict=True, extra="allow"))
class StateValues(TypedDict, total=False):
    """Hold the keys of state.json that are known, each with the kind of its value in words; leave alone one that is not known."""

    step: Annotated[Count, "count"]
    seconds: Annotated[Duration, "duration"]
    image_shape: Annotated[list[Side], Field(min_length=3, max_length=3), "channels, height and width"]
    data_sha256: Annotated[str, "text"]
    data_since: Annotated[SinceState, "count of steps and number of epochs"]
    class_names: Annotated[list[str], "list of names"]
    scale: Annotated[ScaleState, "range of pixels"]
    ema_updates: Annotated[Count, "count"]
    scaler: Annotated[ScalerState | NoState | None, "state of a gradient scaler"]
    loss_sums: Annotated[LossSums, "number for each span"]
    loss_steps: Annotated[LossSteps, "count for each span"]
    history: Annotated[list[dict[str, str | Number | None]], "list of rows"]
    last_loss: Annotated[Number | None, "number"]
    last_held_out_loss: Annotated[Number | None, "number"]
    best_held_out_loss: Annotated[Number | None, "number"]
    held_out_step: Annotated[Count | None, "count"]
    best_saved_loss: Annotated[Number | None, "number"]
    non_finite_steps: Annotated[Count, "count"]
    health: Annotated[HealthState, "record of the last steps"]
    launch: Annotated[LaunchState, "processes, threads, device, precision, kernels and torch version"]
    grad_norm: Annotated[Number, "number"]
    after_step_is_due: Annotated[bool, "true or false"]
    patience: Annotated[PatienceState, "count of evaluations"]


@cache
def _adapter() -> TypeAdapter[StateValues]:
    return TypeAdapter(StateValues)


def check_state(values: Mapping[str, Any]) -> None:
    """Refuse values of another kind than training writes; keys that are not known are left alone.

    Raises:
        UnreadableError: Naming the key.
    """
    try:
        _adapter().validate_python(dict(values))
    except ValidationError as error:
        key = str(error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][0])
        kind = get_type_hints(StateValues, include_extras=True)[key].__metadata__[-1]
        raise UnreadableError(f"has no {kind} under {key!r}") from None


def is_count(value: Any) -> TypeGuard[int]:
    """Tell whether it is a whole number from 0 to LARGEST_COUNT."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def checked_shape(value: Any, origin: Path) -> tuple[int, int, int]:
    """Read channels, height and width of a checkpoint's images from its state.

    Raises:
        CheckpointError: If it gives none; `origin` is what the message names.
    """
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 < v <= 65536 for v in value):
        if math.prod(value) <= MOST_VALUES:
            return value[0], value[1], value[2]
        raise CheckpointError(
            f"{origin} says that its images are {value[1]}x{value[2]} with {value[0]} channels, which no model here can make.",
            "Name another checkpoint.",
        )
    raise CheckpointError(f"{origin} does not say how large its images are.", "Name another checkpoint.")


def checked_scale(value: Any, origin: Path) -> Scale:
    """Read the range of pixels from a checkpoint's state; the usual one where nothing is said.

    Raises:
        CheckpointError: If it is none; `origin` is what the message names.
    """
    try:
        return scale_of(value)
    except ValueError as error:
        raise CheckpointError(
            f"{origin} does not say which values its pixels have: 'scale' is {error}.", "Name another checkpoint."
        ) from error


def checked_step(value: Any, origin: Path) -> int:
    """Read the steps of training from a checkpoint's state.

    Raises:
        CheckpointError: If it is no count; `origin` is what the message names.
    """
    if is_count(value):
        return value
    raise CheckpointError(f"{origin} does not say how many steps it was trained for.", "Name another checkpoint.")
