"""Load the images of a `[data]` section."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.data import HuggingFaceData, PicturesBase, RangedData
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.data.scale import OF_MIXED_DEPTHS, STORED
from ddpm_cli.errors import ConfigError, DataError
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.config.schema.data import DataConfig
    from ddpm_cli.data.augmentation import Augmentation
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.data.scale import Scale


def build_dataset(config: DataConfig, on_event: Listener = ignore, *, trained_on: bool = False) -> Dataset:
    """Load the images of a `[data]` section into memory or mapped into it.

    Args:
        config: The section.
        on_event: Told of downloads and progress.
        trained_on: Whether a model was trained on them before. Then no others take the place of images that cannot be had.
    Raises:
        DataError: If they are nowhere to be had, or unusable.
    """
    dataset = config.load(on_event, trained_on=trained_on)
    if config.limit is None:
        return dataset
    from ddpm_cli.data.images import with_limit

    return with_limit(dataset, config.limit, evenly=config.limit_keeps_classes_even)


def in_scale_of_run(config: DataConfig, scale: Scale, on_event: Listener = ignore) -> tuple[DataConfig, Dataset]:
    """Load the images that a run goes on with in its own scale: a brighter one must not change what the others look like.

    Args:
        config: The run's section.
        scale: That its model was trained with.
        on_event: Told of downloads and progress.
    Returns:
        The section, with the run's range where another would come of the images that there are now, and the images. Those of fewer
        bits than the run's, and pictures of more, whose values mean something else, keep a scale of their own.
    Raises:
        DataError: As `build_dataset`.
    """
    can_be_pinned = isinstance(config, RangedData) and isinstance(config.range, str) and scale != OF_MIXED_DEPTHS
    are_pictures = isinstance(config, PicturesBase)  # each has the unit of its own bits, an array one for all
    try:
        dataset = build_dataset(config, on_event, trained_on=True)
        deeper = STORED.index(dataset.scale.stored) - STORED.index(scale.stored)
        if dataset.scale == scale or not can_be_pinned or deeper < 0 or (deeper > 0 and are_pictures):
            return config, dataset
    except DataError:
        # Of 8 bits, it may be that deeper ones in an array have no scale in common with them.
        if not can_be_pinned or are_pictures or scale.stored != STORED[0]:
            raise
    pinned = config.model_copy(update={"range": (scale.low, scale.high)})
    return pinned, build_dataset(pinned, on_event, trained_on=True)


def build_augmentation(config: DataConfig, image_shape: tuple[int, int, int]) -> Augmentation | None:
    """Build what augments images of [C, H, W]; None where nothing is to.

    Raises:
        ConfigError: If the images have nothing that could be moved.
    """
    if not config.augment:
        return None
    from ddpm_cli.data.augmentation import Augmentation

    height, width = image_shape[1:]
    if 1 in (height, width):
        raise ConfigError(f"data.augment has nothing to turn in pictures of {height}x{width}.", "Set data.augment=0.")
    return Augmentation(config.augment, config.augment_by)


def with_absolute_paths(config: DataConfig) -> DataConfig:
    """Make the section's paths hold from any folder."""
    paths = {key: value for key in ("root", "path") if isinstance(value := getattr(config, key, None), Path)}
    absolute: dict[str, Path | str] = {key: user_path(value, f"data.{key}", DataError).absolute() for key, value in paths.items()}
    if isinstance(config, HuggingFaceData) and config.name is not None:
        local = user_path(config.name, "data.name", DataError)
        absolute |= {"name": str(local.absolute())} if local.is_dir() else {}
    return config.model_copy(update=absolute)
