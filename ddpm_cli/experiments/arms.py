"""Group runs into arms: the repeats of one experiment, which differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.layers import flatten
from ddpm_cli.config.resolve.loader import WEIGHTS
from ddpm_cli.config.resolve.outline import default_of
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.errors import DdpmError
from ddpm_cli.runs.checkpoints import list_checkpoints
from ddpm_cli.runs.record import data_sha256, read_config
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.results.comparison import Run
    from ddpm_cli.runs.record import RunRecord

DATA = "data.sha256"
NO_SETTINGS = (
    "train.seed",
    "train.device",
    "train.trackers",
    "data.root",
    "data.path",
)  # where the data lie says less than their checksum

Settings = dict[str, Any]


@dataclass(frozen=True)
class Repeats:
    """Hold the runs of an arm.

    Attributes:
        name: Of the arm.
        records: In the order in which they were named.
        settings: What they were trained with, by dotted key; `data.sha256` tells apart data that only share their name.
    """

    name: str
    records: tuple[RunRecord, ...]
    settings: Settings

    @property
    def finished(self) -> bool:
        """Tell whether any run has used up its budget."""
        return any(record.run.finished for record in self.records)

    @property
    def counted(self) -> tuple[RunRecord, ...]:
        """List the independent repeats: one run of each seed and first weights, and only finished ones if any is."""
        by_repeat: dict[tuple[int, str], RunRecord] = {}
        for record in self.records:
            if record.run.finished or not self.finished:
                by_repeat.setdefault(record.run.repeat, record)
        return tuple(by_repeat.values())


def group_arms(records: Sequence[RunRecord]) -> list[Repeats]:
    """Group some runs into arms, in the order of their first run; each has a name of its own.

    Runs that took their first weights from repeats of one experiment, such as students of its runs, differ in nothing by that.
    """
    groups: dict[str, tuple[Settings, list[RunRecord]]] = {}
    sources = _Sources()
    for record in records:
        settings = sources.settings(record.config, record.data_sha256)
        groups.setdefault(_text(settings), (settings, []))[1].append(record)
    arms: list[Repeats] = []
    for settings, group in groups.values():
        arms.append(Repeats(_new_name(_name(group[0].run), [arm.name for arm in arms]), tuple(group), settings))
    return arms


def differences(arms: Sequence[Repeats]) -> dict[str, tuple[Any, ...]]:
    """List the settings in which arms differ: dotted key to the value of each arm, None for an arm that has no such key.

    What belongs to a kind that not all arms have is left out where it is as it comes with that kind.
    """
    keys = dict.fromkeys(key for arm in arms for key in arm.settings)
    values = {key: tuple(arm.settings.get(key) for arm in arms) for key in keys}
    differing = {key: found for key, found in values.items() if any(value != found[0] for value in found)}
    return {key: found for key, found in differing.items() if None not in found or not _comes_with_kind(key, arms)}


def _comes_with_kind(key: str, arms: Sequence[Repeats]) -> bool:
    section = key.rpartition(".")[0]
    having = [arm.settings for arm in arms if key in arm.settings]
    defaults = [default_of(key, settings[f"{section}.kind"]) for settings in having if f"{section}.kind" in settings]
    return len(defaults) == len(having) and all(
        settings[key] == ("none" if default is None else default) for settings, default in zip(having, defaults, strict=True)
    )


class _Sources:
    """Put one run in the place of all repeats of its experiment that others took their first weights from."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._looked_into: set[Path] = set()

    def settings(self, config: Config, sha256: str) -> Settings:
        """List what tells arms apart."""
        settings = {key: value for key, value in flatten(config).items() if key not in NO_SETTINGS} | {DATA: sha256}
        if (weights := config.start.weights) is not None:
            settings[WEIGHTS] = self._first.setdefault(self._arm(weights), path_text(weights))
        return settings

    def _arm(self, weights: Path) -> str:
        """What tells a source apart: of a run its own settings, and the step if it is not the newest; else where it lies."""
        of_checkpoint = RunDirectory(weights.parent.parent)
        is_checkpoint = weights.parent == of_checkpoint.checkpoints_folder
        run = of_checkpoint if is_checkpoint else RunDirectory(weights)
        if run.path in self._looked_into:  # a run cannot come from itself, whatever a stranger's config says
            return path_text(weights)
        self._looked_into.add(run.path)
        try:
            settings = self.settings(read_config(run), data_sha256(run))
            earlier = is_checkpoint and [path.name for path in list_checkpoints(run)][-1:] != [weights.name]
        except (DdpmError, OSError):
            return path_text(weights)
        finally:
            self._looked_into.discard(run.path)
        return _text([settings, weights.name if earlier else ""])


def _text(settings: Any) -> str:
    return json.dumps(settings, sort_keys=True)


def _name(run: Run) -> str:
    """A run's name without the seed that a sweep puts at its end."""
    return run.name.removesuffix(f"-s{run.seed}") or run.name


def _new_name(name: str, taken: Sequence[str]) -> str:
    """The name itself, or with the first number that makes it a new one."""
    numbered = (name if number == 1 else f"{name} ({number})" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)
