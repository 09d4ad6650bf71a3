"""From a `[data]` section to images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from ddpm_cli.config.schema.data import (
    ArraysData,
    CelebaData,
    Cifar10Data,
    Cifar100Data,
    EmnistData,
    FashionMnist10kData,
    FashionMnistData,
    FolderData,
    HuggingFaceData,
    KmnistData,
    MnistData,
    SvhnData,
)
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.config.schema.data import DataConfig
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.data.pictures.settings import Pictures, PictureSettings


def build_dataset(config: DataConfig, on_event: Listener = ignore, *, trained_on: bool = False) -> Dataset:
    """The images of a `[data]` section, uint8, in memory or mapped into it.

    Args:
        config: The section.
        on_event: Told of downloads and progress.
        trained_on: Whether a model was trained on them before. Then no others take the place of images that cannot be had, and dark
            ones are taken as they were.
    Raises:
        DataError: If they are nowhere to be had, or unusable.
    """
    dataset = _load_dataset(config, on_event, trained_on)
    if config.limit is None:
        return dataset
    from ddpm_cli.data.images import with_limit

    return with_limit(dataset, config.limit, evenly=isinstance(config, ArraysData) and config.take == "evenly")


def _load_dataset(config: DataConfig, on_event: Listener, trained_on: bool) -> Dataset:
    match config:
        case FashionMnistData() | FashionMnist10kData():
            return _load_fashion_mnist(config, on_event, trained_on)
        case Cifar10Data() | Cifar100Data():
            from ddpm_cli.data.sources.cifar import CIFAR10, CIFAR100, load_cifar

            return load_cifar(CIFAR10 if isinstance(config, Cifar10Data) else CIFAR100, config.root, on_event)
        case MnistData() | KmnistData() | EmnistData() | SvhnData():
            return _load_published(config, on_event)
        case CelebaData():
            from ddpm_cli.data.sources.celeba import load_celeba

            return load_celeba(config.root, picture_settings(config), on_event)
        case FolderData():
            return _load_folder(config, on_event, trained_on)
        case HuggingFaceData():
            return _load_huggingface(config, on_event, trained_on)
        case ArraysData():
            return _load_arrays(config, trained_on)
        case _:
            assert_never(config)


def _load_fashion_mnist(config: FashionMnistData | FashionMnist10kData, on_event: Listener, trained_on: bool) -> Dataset:
    from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist, load_fashion_mnist_10k

    if isinstance(config, FashionMnist10kData):
        return load_fashion_mnist_10k()
    return load_fashion_mnist(config.root, on_event, stand_in=not trained_on)


def _load_published(config: MnistData | KmnistData | EmnistData | SvhnData, on_event: Listener) -> Dataset:
    from ddpm_cli.data.sources import torchvision_sets

    match config:
        case MnistData():
            return torchvision_sets.load_mnist(config.root, on_event)
        case KmnistData():
            return torchvision_sets.load_kmnist(config.root, on_event)
        case EmnistData():
            return torchvision_sets.load_emnist(config.split, config.root, on_event)
        case SvhnData():
            return torchvision_sets.load_svhn(config.root, on_event)


def _load_folder(config: FolderData, on_event: Listener, trained_on: bool) -> Dataset:
    from ddpm_cli.data.pictures.cache import load_pictures

    return load_pictures(find_pictures(config), replace(picture_settings(config), dark=trained_on), on_event)


def find_pictures(config: FolderData) -> Pictures:
    """The pictures of a section of the kind folder, still encoded.

    Raises:
        DataError: If it names no folder, or one that makes no data set.
    """
    from ddpm_cli.data.sources.folder import scan_folder

    if config.root is None:
        raise DataError("The kind folder needs a folder.", "Name it: --data DIR (data.root).")
    return scan_folder(user_path(config.root, "data.root", DataError), config.splits, follow_links=config.follow_links)


def _load_huggingface(config: HuggingFaceData, on_event: Listener, trained_on: bool) -> Dataset:
    from ddpm_cli.data.sources.huggingface import HubQuery, load_huggingface

    if config.name is None:
        raise DataError("The kind huggingface needs the name of a data set.", "Name it: --set data.name=NAME")
    query = HubQuery(config.name, config.subset, config.split, config.held_out_split, config.image_column, config.label_column)
    return load_huggingface(query, replace(picture_settings(config), dark=trained_on), on_event)


def _load_arrays(config: ArraysData, trained_on: bool) -> Dataset:
    from ddpm_cli.data.sources.arrays import load_arrays

    if config.path is None:
        raise DataError("The kind arrays needs a file.", "Name it: --data FILE.npz (data.path).")
    return load_arrays(user_path(config.path, "data.path", DataError), config.layout, config.held_out, dark=trained_on)


def with_absolute_paths(config: DataConfig) -> DataConfig:
    """The section with paths that hold from any folder."""
    paths = {key: value for key in ("root", "path") if isinstance(value := getattr(config, key, None), Path)}
    absolute: dict[str, Path | str] = {key: user_path(value, f"data.{key}", DataError).absolute() for key, value in paths.items()}
    if isinstance(config, HuggingFaceData) and config.name is not None:
        local = user_path(config.name, "data.name", DataError)
        absolute |= {"name": str(local.absolute())} if local.is_dir() else {}
    return config.model_copy(update=absolute)


def picture_settings(config: CelebaData | FolderData | HuggingFaceData) -> PictureSettings:
    """What a section says about pictures that are still encoded."""
    from ddpm_cli.data.pictures.settings import PictureSettings

    held_out = 0.0 if isinstance(config, CelebaData) else config.held_out
    channels = None if isinstance(config.channels, str) else config.channels
    return PictureSettings(
        size=config.size,
        channels=channels,
        background=config.background,
        small=config.small,
        held_out=held_out,
        strict=config.strict,
    )
