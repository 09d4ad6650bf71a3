"""List in `--help` what can be chosen, read off the config's schema and the registries when help is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ddpm_cli.cli.parsing.commands import Command

Lists = Iterable[tuple[str, list[tuple[str, str]]]]
"""Titles, each with names and what they are."""


def help_with(lists: Callable[[], Lists]) -> type[Command]:
    """Make a command whose help ends with lists of choices.

    Args:
        lists: Gives them; called when help is asked for, not before.
    """

    class CommandWithChoices(Command):
        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            super().format_epilog(ctx, formatter)
            for title, rows in lists():
                with formatter.section(title):
                    formatter.write_dl(rows)

    return CommandWithChoices


def help_with_choices(*prefixes: str) -> type[Command]:
    """Make a command whose help ends with the choices below some sections of the config, each with its paper.

    Args:
        prefixes: Dotted paths such as "schedule" or "sample".
    """
    return help_with(lambda: config_choices(*prefixes))


def config_choices(*prefixes: str) -> Lists:
    """List the choices below some sections of the config."""
    from ddpm_cli.config.resolve.outline import choices, sections

    for path in choices():
        if path.startswith(prefixes):
            yield f"--set {path}=...", [(kind, cls.__doc__ or "") for kind, cls in sections()[path].items()]


def format_choices() -> Lists:
    """List the export formats."""
    from ddpm_cli.interop.registry import known_formats

    yield "--format ...", [(name, format.about) for name, format in known_formats().items()]


def metric_choices() -> Lists:
    """List the metrics."""
    from ddpm_cli.metrics.registry import known_metrics

    yield "--metrics ...", [(name, metric.about) for name, metric in known_metrics().items()]
