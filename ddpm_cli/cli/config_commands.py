"""`ddpm config`: see what a run would be configured with."""

from __future__ import annotations

import typer

from ddpm_cli.cli.options import ConfigOption, JsonOption, PresetOption, SetOption

config_app = typer.Typer(name="config", no_args_is_help=True, rich_markup_mode=None)


@config_app.callback()
def config() -> None:
    """See what a run would be configured with.

    For example:

      ddpm config show --preset quick
    """


@config_app.command("show")
def show(
    preset: PresetOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the resolved config as TOML, and of each value where it came from.

    The output is a config file itself. Precedence: defaults, preset, TOML file, --set.

    For example:

      ddpm config show

      ddpm config show --preset quick > recipe.toml

      ddpm config show --config recipe.toml --set schedule=cosine

      ddpm config show --preset quick --json
    """
    from ddpm_cli.config.loader import load_config
    from ddpm_cli.render.config import show_config

    show_config(load_config(preset=preset, file=config, sets=sets or ()), as_json=as_json)
