"""Load the images of a `[data]` section."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.data import HuggingFaceData
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import ConfigError, DataError
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.config.schema.data import DataConfig
    from ddpm_cli.data.augmentation import Augmentation
    from ddpm_cli.data.images import Dataset


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
