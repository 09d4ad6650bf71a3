"""Describe what can be asked for, once for commands, Python and files: the values of each thing, its bounds, and its help.

A request is a `TypedDict` each of whose fields may be None and is `Annotated` with a `Said`. Imports no torch and no pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.names import as_known, nearest
from ddpm_cli.errors import RequestError


class Said(NamedTuple):
    """Describe a thing that can be asked for, as `--help` says it.

    Attributes:
        metavar: What its value is called; None where it is said or not.
        help: What it does.
        choices: Section of the config whose kinds are its values; empty for any value.
        also: Another spelling of the option.
        least: Smallest whole number that it can be.
        bits: Bits that must hold it; None for any number.
        more: Names that are values beside those kinds.
        names: Names that are values beside paths; a path of such a name is written with its folder, as in ./test.
    """

    metavar: str | None
    help: str
    choices: str = ""
    also: str = ""
    least: int = 1
    bits: int | None = None
    more: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class Asked(NamedTuple):
    """Hold one field of a request.

    Attributes:
        hint: Its type, which includes None: it can always be left out.
        said: What is said of it.
    """

    hint: Any
    said: Said

    @property
    def kinds(self) -> tuple[Any, ...]:
        """List the types of its values, without None."""
        return tuple(kind for kind in get_args(self.hint) if kind is not NoneType)

    @property
    def types(self) -> tuple[type, ...]:
        """List the classes of its values; a whole number will do for any number."""
        kinds = tuple(str if get_origin(kind) is Literal else kind for kind in self.kinds)
        return (*kinds, int) if float in kinds else kinds

    @property
    def wanted(self) -> str:
        """Say what its values are."""
        names = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", str: "a text"}
        return names[next(kind for kind in (bool, float, int, Path, str) if kind in self.types)]

    @property
    def choices(self) -> tuple[str, ...]:
        """List its values, where they are a few names."""
        return next((get_args(kind) for kind in self.kinds if get_origin(kind) is Literal), ())


def as_option(name: str) -> str:
    """Spell the name of an argument as an option of a command."""
    return f"--{name.replace('_', '-')}"


def fields_of(request: type) -> dict[str, Asked]:
    """List what a request can ask for, by name, in order."""
    hints = get_type_hints(request, include_extras=True)
    return {name: Asked(*get_args(hint)) for name, hint in hints.items()}


def require_fields(request: type, given: Iterable[str]) -> None:
    """Refuse what a request has no field for.

    Raises:
        RequestError: Naming the first of it.
    """
    fields = fields_of(request)
    unknown = next((name for name in given if name not in fields), None)
    if unknown is not None:
        raise RequestError(f"There is no argument {unknown}; {nearest(unknown, fields)}.", "Leave it out, or correct it.")


def checked(request: type, given: Mapping[str, Any], spelt: Callable[[str], str] = as_option) -> dict[str, Any]:
    """Check what was asked for, each thing by itself.

    Args:
        request: What can be asked for.
        given: What was, by name; None is the same as not said.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
    Returns:
        What was said, names as they are spelled here, and paths as such.
    Raises:
        RequestError: If there is no such thing to ask for, or it cannot have this value.
    """
    require_fields(request, given)
    fields = fields_of(request)
    return {name: _checked(fields[name], value, spelt(name)) for name, value in given.items() if value is not None}


def _checked(field: Asked, value: Any, name: str) -> Any:
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)  # of NumPy
    if type(value) not in field.types and not (Path in field.types and isinstance(value, Path)):
        raise RequestError(f"{name} cannot be {value!r}.", f"Give {name} {field.wanted}.")
    if field.choices:
        return _chosen(field.choices, value, name)
    if int in field.kinds:
        _require_in_bounds(field.said, value, name)
    if Path not in field.kinds:
        return value
    named = as_known(value, field.said.names) if isinstance(value, str) else value
    return named if named in field.said.names else user_path(value, name)


def _chosen(choices: tuple[str, ...], value: str, name: str) -> str:
    if (chosen := as_known(value, choices)) not in choices:
        raise RequestError(f"There is no {name} {value!r}.", f"Choose one of {', '.join(choices)}.")
    return chosen


def _require_in_bounds(said: Said, value: int, name: str) -> None:
    if value < said.least:
        raise RequestError(f"{name} must be at least {said.least}, not {value}.", f"Give {name} a larger number.")
    if said.bits is not None and value >= 2**said.bits:
        raise RequestError(f"{name} must be below 2**{said.bits}, not {value}.", f"Give {name} a smaller number.")
