"""Run `ddpm config`: show, start and compare configs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.commands import Command, Group
from ddpm_cli.cli.parsing.completion import config_names
from ddpm_cli.cli.parsing.options import ConfigOption, JsonOption, PresetOption, SetOption, path_of

config_app = typer.Typer(name="config", cls=Group, no_args_is_help=True, rich_markup_mode=None)


@config_app.callback()
def config() -> None:
    """Show, start and compare configs.

    For example:

      ddpm config show --preset quick

      ddpm config diff default quick
    """


@config_app.command("show", cls=Command)
def show(
    preset: PresetOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the resolved config as TOML, and say where each value came from.

    The output is itself a config file. Values come from the defaults, then the preset, then the TOML file, then --set. A later
    one wins.

    For example:

      ddpm config show

      ddpm config show --preset quick > recipe.toml

      ddpm config show --config recipe.toml --set schedule=cosine

      ddpm config show --preset quick --json
    """
    from ddpm_cli.config.resolve.loader import load_config
    from ddpm_cli.render.terminal.config import show_config
    from ddpm_cli.training.start.source import source_opener

    show_config(load_config(preset=preset, file=config, sets=sets or (), open_source=source_opener()), as_json=as_json)


@config_app.command("init", cls=Command)
def init(
    file: Annotated[
        Path, typer.Argument(parser=path_of("FILE"), metavar="[FILE]", help="File to write. A file that exists is never replaced.")
    ] = Path("recipe.toml"),
    preset: PresetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a config file to start from.

    The file has every key as a comment, with what the key means and with its value in a preset.

    For example:

      ddpm config init

      ddpm config init mine.toml --preset quick
    """
    from ddpm_cli.config.resolve.template import template
    from ddpm_cli.core.io.files import create
    from ddpm_cli.core.io.paths import shell_word
    from ddpm_cli.render.terminal.console import print_json, show_line

    name = "default" if preset is None else preset
    create(file, template(name))
    show_line("wrote:", "green", f"{file}; train with it: ddpm train --config {shell_word(file)}")
    if as_json:
        print_json({"file": file, "preset": name})


ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="Preset, TOML file, run folder or name, checkpoint, or exported file.",
        autocompletion=config_names,
        show_default=False,
    ),
]


@config_app.command("diff", cls=Command)
def diff(a: ConfigArgument, b: ConfigArgument, as_json: JsonOption = False) -> None:
    """Show which settings differ between two presets, files or runs.

    For example:

      ddpm config diff default quick

      ddpm config diff quick runs/quick-001 --json
    """
    from ddpm_cli.config.resolve.changes import differing
    from ddpm_cli.render.terminal.console import print_json
    from ddpm_cli.render.terminal.overview import differences_json, show_differences
    from ddpm_cli.sampling.stored import named_config

    found = differing(named_config(a), named_config(b))
    if as_json:
        print_json(differences_json((a, b), found))
    else:
        show_differences((a, b), found)
