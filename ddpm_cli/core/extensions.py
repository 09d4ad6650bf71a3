"""Load what other installed packages add to the choices of this one.

A package names its own under an entry point group, such as `ddpm.samplers`, in its pyproject.toml; `examples/extending` holds one
of each. Whatever process starts, a worker of torchrun among them, then knows the same choices.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ddpm_cli.errors import ExtensionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint, EntryPoints, SelectableGroups

Kind = TypeVar("Kind")


def extensions(
    group: str, known: dict[str, Kind], fits: Callable[[object], TypeGuard[Kind]], name_of: Callable[[Kind], str]
) -> dict[str, Kind]:
    """Add to the choices of one group what other packages have under it, by name, in the order of the names.

    Args:
        group: Name of the entry point group, such as "ddpm.metrics".
        known: The choices of this package, by name.
        fits: Tells whether something is a choice of this group.
        name_of: Reads off what a choice calls itself; an entry must have the same name.
    Returns:
        A new dict: those of `known` first.
    Raises:
        ExtensionError: If one cannot be imported, is something else, or has another name or one that is taken.
    """
    found = dict(known)
    for entry in _entries(group):
        value = _loaded(entry)
        if not fits(value):
            raise _unfit(entry, f"{entry.value} is nothing of that kind")
        if name_of(value) != entry.name:
            raise _unfit(entry, f"{entry.value} calls itself {name_of(value)}")
        if entry.name in found:
            raise _unfit(entry, "there is another of this name")
        found[entry.name] = value
    return found


def lazily(path: str) -> Callable[..., Any]:
    """Stand for a function that is imported when it is first called, so that a record of it costs nothing.

    Args:
        path: Of the function, such as "ddpm_cli.metrics.kid:kid".
    """

    def call(*arguments: Any) -> Any:
        from pkgutil import resolve_name

        return resolve_name(path)(*arguments)

    return call


@cache
def _all_entries() -> EntryPoints | SelectableGroups:
    from importlib.metadata import entry_points

    return entry_points()


def _entries(group: str) -> list[EntryPoint]:
    # A package that is found twice, such as an editable one on the path as well, is one.
    return sorted(set(_all_entries().select(group=group)), key=lambda entry: entry.name)


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:
        raise _unfit(entry, f"{type(error).__name__}: {error}") from error


def _unfit(entry: EntryPoint, why: str) -> ExtensionError:
    package = entry.dist.name if entry.dist else "an installed package"
    return ExtensionError(
        f"The package {package} adds {entry.name} to {entry.group}, but it cannot be used: {why}.",
        f"Mend it, or take it out: pip uninstall {package}",
    )
