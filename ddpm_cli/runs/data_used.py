"""Tell which data a run really used: where they took the place of those that it asked for, and where they changed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from ddpm_cli.config.schema.data import ArraysData, FashionMnist10kData, FashionMnistData, OwnPictures, SlicesData
from ddpm_cli.core.io.files import UnreadableError, atomic_write, open_regular
from ddpm_cli.errors import RunError
from ddpm_cli.results.data_change import FROM_THE_START, DataChange, Since
from ddpm_cli.runs.directory import data_facts, read_info, write_info
from ddpm_cli.runs.provenance import describe_data
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    return FashionMnist10kData(**data.model_dump(include={"limit", "horizontal_flip", "augment", "augment_by"}))


# -------------------------------------------------------------------------------------------------------- what changes

CHANGES = "data_changes"
"""In run.json: each time that a run went on with other images, with the step from which on it has them."""
_SUMS = "<u8"
MOST_BYTES = 2**32
"""Of pixels that are summed picture by picture: more would hold up the start of a run."""


def data_changes(info: Mapping[str, Any]) -> list[DataChange]:
    """List the changes of the images that a run.json tells of; none if it tells of something else there."""
    try:
        return TypeAdapter(list[DataChange]).validate_python(info.get(CHANGES, []))
    except ValidationError:
        return []


def images_since(info: Mapping[str, Any]) -> Since:
    """Tell from where on a run has the images that its run.json describes."""
    changes = data_changes(info)
    return Since(changes[-1].step, changes[-1].epochs) if changes else FROM_THE_START


def keep_sums(run: RunDirectory, config: Config, dataset: Dataset) -> None:
    """Keep a sum of each training picture of one's own, so that it can be told later which were added or removed.

    Raises:
        OutputError: If they cannot be written.
    """
    import numpy as np

    from ddpm_cli.data.images import pixel_sums

    if isinstance(config.data, OwnPictures | ArraysData | SlicesData) and dataset.train.images.nbytes <= MOST_BYTES:
        atomic_write(run.pictures_path, np.sort(pixel_sums(dataset.train.images)).astype(_SUMS).tobytes())


def kept_sums(run: RunDirectory) -> NDArray[np.uint64] | None:
    """Read what `keep_sums` kept; None if there is nothing of that kind."""
    import numpy as np

    try:
        with open(open_regular(run.pictures_path), "rb") as file:
            return np.frombuffer(file.read(), _SUMS).astype(np.uint64)
    except (OSError, UnreadableError, ValueError):  # the last where it ends in the midst of a sum
        return None


def missing_from(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> int:
    """Count how many of some sums have no equal among others, each of which is the equal of one."""
    import numpy as np

    values, counts = np.unique(some, return_counts=True)
    known, times = np.unique(others, return_counts=True)
    there = dict(zip(known.tolist(), times.tolist(), strict=True))
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return sum(max(0, count - there.get(value, 0)) for value, count in pairs)


def record_data(run: RunDirectory, config: Config, dataset: Dataset, step: int, change: DataChange | None) -> None:
    """Keep in run.json which images a run has from a step on; changes that were to come at this step or later are forgotten.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        info = read_info(run)
    except RunError:  # it is damaged: the checkpoints tell the images
        return
    before = data_changes(info)
    kept = [*(one for one in before if one.step < step), *([change] if change else [])]
    if kept == before:
        return
    keep_sums(run, config, dataset)
    write_info(run, {**info, "data": describe_data(dataset), CHANGES: [asdict(one) for one in kept]})
