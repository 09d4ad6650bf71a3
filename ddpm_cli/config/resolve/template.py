"""Write a config file to start from: every key with what it means, and its value in a preset."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.outline import is_choice, join, sections
from ddpm_cli.config.resolve.toml_text import toml_value

WIDTH = 100
_HEAD = """\
# A config for `ddpm train --config FILE`. It starts from the preset below; each key stands here with its value there.
# To change one, take away the # in front of it. `ddpm config show --config FILE` shows the result, and
# `ddpm config diff {preset} FILE` what is different.

preset = {named}
"""


def template(preset: str) -> str:
    """Write TOML that loads to the preset's config, in which every key is a comment.

    Raises:
        ConfigError: If there is no such preset.
    """
    config = load_config(preset=preset).config
    lines = _section("", config.model_dump(mode="json"))
    return _HEAD.format(preset=preset, named=toml_value(preset)) + "\n".join(lines) + "\n"


def _section(path: str, tree: Mapping[str, Any]) -> Iterator[str]:
    kind = tree["kind"] if is_choice(path) else ""
    cls = sections()[path][kind]
    if is_choice(path):
        for name, variant in sections()[path].items():
            yield from _comment(f"{name}: {variant.__doc__ or ''}")
        yield f"# kind = {toml_value(kind)}"
    for name, value in tree.items():
        if not isinstance(value, dict) and not (is_choice(path) and name == "kind"):
            yield from _comment(cls.model_fields[name].description or "")
            yield f"# {name} = {toml_value(value)}"
    for name, value in tree.items():
        if isinstance(value, dict):
            inner = join(path, name)
            yield ""
            yield f"[{inner}]"
            yield from _section(inner, value)


def _comment(text: str) -> list[str]:
    """Set off by two signs from the keys, which have one."""
    return textwrap.wrap(text, WIDTH, initial_indent="## ", subsequent_indent="##   ")
