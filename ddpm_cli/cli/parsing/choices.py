"""The part of `--help` that lists what can be chosen in a config, read off its schema."""

from __future__ import annotations

from typing import Any

from ddpm_cli.cli.parsing.commands import Command


def help_with_choices(*prefixes: str) -> type[Command]:
    """A command whose help ends with the choices below some sections of the config, each with its paper.

    The schema is imported when help is asked for, not before.

    Args:
        prefixes: Dotted paths such as "schedule" or "sample".
    """

    class CommandWithChoices(Command):
        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            super().format_epilog(ctx, formatter)
            from ddpm_cli.config.resolve.outline import choices, sections

            for path in choices():
                if path.startswith(prefixes):
                    with formatter.section(f"--set {path}=..."):
                        formatter.write_dl([(kind, cls.__doc__ or "") for kind, cls in sections()[path].items()])

    return CommandWithChoices
