"""Tell which data a run really used, where they took the place of those that it asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_cli.config.schema.data import FashionMnist10kData, FashionMnistData
from ddpm_cli.errors import RunError
from ddpm_cli.runs.directory import data_facts, read_info
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.data import DataConfig
    from ddpm_cli.data.images import Dataset

FULL, BUNDLED = (kind.model_fields["kind"].default for kind in (FashionMnistData, FashionMnist10kData))


def with_data_used(config: Config, dataset: Dataset) -> Config:
    """Put the data that were loaded into the config: later starts are to find the same, whatever can be had then."""
    return with_bundled(config) if dataset.stands_in_for else config


def with_data_of(config: Config, run: RunDirectory) -> Config:
    """Put the data that run.json says were used into the config of a run; configs of earlier versions do not say."""
    return with_bundled(config) if stood_in_for(run) else config


def stood_in_for(run: RunDirectory) -> str | None:
    """Tell whose place a run's images took when it began; None if they are those that it asked for, or nothing tells."""
    try:
        facts = data_facts(read_info(run))
    except RunError:
        return None
    return FULL if facts.get("name") == BUNDLED and (facts.get("stands_in_for") == FULL or _says_so(facts)) else None


def stand_in_notice(run: RunDirectory) -> str:
    """Say at a resume that the run's images took the place of others."""
    return (
        f"{run.path} was begun where Fashion-MNIST's 60,000 images could not be had, and goes on with the 10,000 that took their "
        f"place ({BUNDLED}). To train on all of them, start a new run: ddpm train --data {FULL}"
    )


def _says_so(facts: dict[str, Any]) -> bool:
    """Whether a run.json of an earlier version has the notice of the fallback: the bundled images have no other."""
    return bool(facts.get("notices")) and "stands_in_for" not in facts


def with_bundled(config: Config) -> Config:
    """Put the bundled images into the config instead of a full set that is to be looked for."""
    return config.model_copy(update={"data": _bundled(config.data)})


def _bundled(data: DataConfig) -> DataConfig:
    if not isinstance(data, FashionMnistData) or data.root is not None:
        return data
    return FashionMnist10kData(limit=data.limit, horizontal_flip=data.horizontal_flip)
