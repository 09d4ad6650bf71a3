"""Tell where published data sets lie on this machine, without reading them."""

from __future__ import annotations

from collections.abc import Callable

from ddpm_cli.core.io.downloads import cache_directory

BUNDLED = "comes with ddpm-cli"


def has_place(name: str) -> bool:
    """Tell whether a data set is a published one, which lies somewhere or not; a person's own has a path of its own."""
    return name in _PLACES


def place_of(name: str) -> str | None:
    """Tell where the data set would be taken from, or None if it would be downloaded; that its files are sound is not looked at.

    Args:
        name: A data set of which `has_place` is true.
    """
    return _PLACES[name](name)


def _fashion_mnist(name: str) -> str | None:
    from ddpm_cli.data.sources.fashion_mnist import find_fashion_mnist

    found = find_fashion_mnist()
    return None if found is None else found[1]


def _cifar(name: str) -> str | None:
    from ddpm_cli.data.sources.cifar import CIFAR10, CIFAR100, is_below

    cache = cache_directory()
    return f"the cache folder {cache}" if is_below(CIFAR10 if name == CIFAR10.name else CIFAR100, cache) else None


def _published(name: str) -> str | None:
    home = cache_directory() / name
    return f"the cache folder {home}" if home.exists() else None


_PLACES: dict[str, Callable[[str], str | None]] = {
    "fashion-mnist": _fashion_mnist,
    "fashion-mnist-10k": lambda name: BUNDLED,
    **dict.fromkeys(("cifar10", "cifar100"), _cifar),
    **dict.fromkeys(("mnist", "kmnist", "emnist", "svhn", "celeba"), _published),
}
