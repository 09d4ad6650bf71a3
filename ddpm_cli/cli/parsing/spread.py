"""Give a command the options that a request is made of, each spelled where the request is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

from ddpm_cli.cli.parsing.completion import kinds
from ddpm_cli.sampling.request import Drawing, Said, as_option


def with_drawing(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of a `Drawing` in the place of its parameter `drawing`.

    Args:
        left_out: Those that the command has no use for, or an option of its own.
    """
    fields = {name: hint for name, hint in get_type_hints(Drawing, include_extras=True).items() if name not in left_out}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=_option(name, hint))
        for name, hint in fields.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def spread(**given: Any) -> None:
            drawing = {name: given.pop(name) for name in fields}
            command(**given, drawing=drawing)

        own = inspect.signature(command, eval_str=True).parameters
        spread_out = [found for name, one in own.items() for found in (parameters if name == "drawing" else [one])]
        spread.__signature__ = inspect.Signature(spread_out)  # type: ignore[attr-defined]
        spread.__annotations__ = {one.name: one.annotation for one in spread_out}
        del spread.__wrapped__  # typer would read its parameters instead
        return spread

    return decorate


def _option(name: str, hint: Any) -> Any:
    """Make the option of one thing that can be asked for."""
    kind, said = get_args(hint)
    assert isinstance(said, Said)
    complete = kinds(said.choices) if said.choices else None
    option = typer.Option(as_option(name), metavar=said.metavar, help=said.help, show_default=False, autocompletion=complete)
    return Annotated[kind, option]
