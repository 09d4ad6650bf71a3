"""Refuse what cannot be asked of images, or of a reference, before a network is loaded. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.given.kinds import kind_at
from ddpm_cli.evaluation.settings import USUALLY, Measuring
from ddpm_cli.metrics.registry import known_metrics

if TYPE_CHECKING:
    from ddpm_cli.config.schema.data import DataConfig

OF_A_MODEL = ("sampler", "steps", "guidance", "guide_with", "guide_scale", "seed", "repeats", "likelihood_steps")
"""What can be asked of a model alone, by its name."""


def require_reference(path: Path, spelt: Callable[[str], str], runs: Path = Path("runs")) -> Path:
    """Find a reference, which may be the name of a run below `runs`; refuse one where there is nothing.

    Raises:
        RequestError: With what can be named.
    """
    if kind_at(path, runs) is None:
        raise RequestError(
            f"There is no {spelt('reference')} {path}.",
            "Give train, test, a folder of pictures, an .npz or .npy file, or a run.",
        )
    below = runs / path
    return below if len(path.parts) <= 2 and kind_at(path, runs) == "model" and below.exists() else path


def check_given(path: Path, metrics: Sequence[str], asked: Measuring, spelt: Callable[[str], str], *, ema: bool) -> None:
    """Refuse metrics and settings that only a model has.

    Raises:
        RequestError: Naming the metric or the setting.
    """
    for name in metrics:
        if not known_metrics()[name].is_of_samples:
            raise RequestError(
                f"{name} is measured of a model, and {path} holds images alone.",
                "Name a run, or ask for metrics of samples, such as fid or fcd.",
            )
    foreign = [name for name in OF_A_MODEL if asked.get(name) not in (None, USUALLY.get(name))]
    foreign += [] if ema else ["ema"]
    if foreign:
        raise RequestError(
            f"{spelt(foreign[0])} has no effect on {path}, which holds images that are drawn already.", "Leave it out."
        )


def data_of(data: str | None, sets: Sequence[str], spelt: Callable[[str], str]) -> DataConfig | None:
    """Resolve the data set that images are measured against; None if none is named.

    Raises:
        RequestError: If settings are of anything else, or of no data.
        ConfigError: If they are wrong.
    """
    for text in sets:
        key = text.partition("=")[0]
        if not key.startswith("data.") or data is None:
            raise RequestError(
                f"{key} has no effect on images that are drawn already.",
                f"Only data.* of a data set can be set here, beside {spelt('data')}.",
            )
    if data is None:
        return None
    return load_config(sets=sets, flags=data_flags(data, spelt("data"))).config.data
