"""Write a config as TOML text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomli_w

from ddpm_cli.config.resolve.outline import NONE, default_of, is_choice, join
from ddpm_cli.config.schema.config import Config

OF_A_MODEL = ("schedule", "model", "objective")
"""Sections without which weights mean nothing. A stored config has them all; in an empty one, defaults would take their place."""


def to_toml(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """Write the whole config as TOML that loads again to an equal one.

    A value of None is left out, or written "none" where leaving it out would mean something else: another default, or, where
    start.weights names a model, what that was trained with.

    Args:
        config: What to write.
        origins: Dotted key to where its value came from; written as a comment behind the value.
    """
    whole = () if config.start.weights is None else OF_A_MODEL
    return "\n".join(_section("", config.model_dump(mode="json"), origins or {}, whole)).lstrip("\n") + "\n"


def _section(path: str, tree: Mapping[str, Any], origins: Mapping[str, str], whole: Sequence[str]) -> Iterator[str]:
    kind = tree["kind"] if is_choice(path) else ""
    keys = {name: value for name, value in tree.items() if not isinstance(value, dict)}
    for name in sorted(keys, key=lambda name: name != "kind"):
        key = join(path, name)
        value = keys[name]
        if value is None and default_of(key, kind) is None and not key.startswith(tuple(f"{name}." for name in whole)):
            continue
        line = f"{name} = {toml_value(value)}"
        yield f"{line:<40}  # {origins[key]}" if key in origins else line
    for name, value in tree.items():
        if isinstance(value, dict):
            inner = join(path, name)
            lines = list(_section(inner, value, origins, whole))
            if lines:
                yield from ("", f"[{inner}]", *lines)


def toml_value(value: Any) -> str:
    """Write a value as TOML does; None, which TOML lacks, as "none"."""
    if value is None:
        value = NONE
    if isinstance(value, list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
