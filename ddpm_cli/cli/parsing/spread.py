"""Give a command the options that a request is made of, each spelled where the request is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from ddpm_cli.cli.parsing.completion import kinds, one_of
from ddpm_cli.cli.parsing.options import path_of
from ddpm_cli.core.asking import Asked, as_option, fields_of

NOTHING: Mapping[str, Any] = MappingProxyType({})


def with_request(
    parameter: str, request: type, *left_out: str, usually: Mapping[str, Any] = NOTHING
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of a request in the place of one of its parameters.

    Args:
        parameter: Its name; the command is called with a request.
        request: What can be asked for, see `core.asking`.
        left_out: Fields that the command has no use for, or an option of its own.
        usually: What is meant where an option is left out, by name; nothing is said of the others then.
    """
    asked = {name: field for name, field in fields_of(request).items() if name not in left_out}
    options = [_option(name, field, usually.get(name)) for name, field in asked.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def spread(**given: Any) -> None:
            said = {name: given.pop(name) for name in asked}
            command(**given, **{parameter: said})

        own = inspect.signature(command, eval_str=True).parameters
        spread_out = [found for name, one in own.items() for found in (options if name == parameter else [one])]
        spread.__signature__ = inspect.Signature(spread_out)  # type: ignore[attr-defined]
        spread.__annotations__ = {one.name: one.annotation for one in spread_out}
        del spread.__wrapped__  # typer would read its parameters instead
        return spread

    return decorate


def _option(name: str, field: Asked, usual: Any) -> inspect.Parameter:
    """Make the option of one thing that can be asked for."""
    said, spelled = field.said, as_option(name)
    option = typer.Option(
        *filter(None, (spelled, said.also)),
        metavar=said.metavar,
        help=said.help,
        show_default=usual is not None,
        autocompletion=_completion(field),
        parser=path_of(spelled) if Path in field.kinds and not said.names else None,
    )
    kind: Any = _kind(field)
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=usual, annotation=Annotated[kind, option])


def _kind(field: Asked) -> Any:
    if bool in field.kinds:
        return bool
    if field.choices or field.said.names:
        return str | None
    return Path | None if Path in field.kinds else field.hint


def _completion(field: Asked) -> Callable[[str], list[str]] | None:
    if field.said.choices:
        return kinds(field.said.choices, *field.said.more)
    names = field.choices or field.said.names
    return one_of(*names) if names else None
