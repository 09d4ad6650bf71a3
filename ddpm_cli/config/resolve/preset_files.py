"""Read the presets that come with the package: TOML files in `presets/`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import takewhile


@cache
def preset_names() -> tuple[str, ...]:
    """List the names of all presets, in alphabetical order."""
    folder = files("ddpm_cli.config") / "presets"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def preset_about(name: str) -> str:
    """Read what a preset says of itself: the comment that it starts with.

    Args:
        name: One of `preset_names()`.
    """
    lines = takewhile(lambda line: line.startswith("#"), preset_text(name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def preset_text(name: str) -> str:
    """Read the TOML text of a preset.

    Args:
        name: One of `preset_names()`.
    """
    return (files("ddpm_cli.config") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
