"""Print a resolved config on stdout."""

from __future__ import annotations

from ddpm_cli.config.resolve.loader import Resolved
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.render.terminal.console import print_json, print_text


def show_config(resolved: Resolved, *, as_json: bool) -> None:
    """Print a config: TOML with the origin of each value as a comment, or JSON with the keys `config` and `origins`."""
    if as_json:
        print_json({"config": resolved.config.model_dump(mode="json"), "origins": dict(resolved.origins)})
    else:
        print_text(to_toml(resolved.config, resolved.origins).rstrip("\n"))
