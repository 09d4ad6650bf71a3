"""Resolve presets, TOML files, `--set` and flags to one config that says of each value where it came from."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ddpm_cli.config.resolve.faults import DEFAULT, MOST_FAULTS, REMEDY, Fault, config_error, translate, untold, without_echoes
from ddpm_cli.config.resolve.layers import Layer, layer_from_tree, layer_from_user, merge, tree_from_layer
from ddpm_cli.config.resolve.outline import choices
from ddpm_cli.config.resolve.preset_files import preset_names, preset_text
from ddpm_cli.config.resolve.toml_reading import parse_toml
from ddpm_cli.config.resolve.toml_text import OF_A_MODEL
from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.schedule import TableSchedule
from ddpm_cli.config.schema.section import STORED
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.names import as_known, meant, nearest

MAX_FILE_BYTES = 4_000_000
"""The config of a run with a table of 100,000 betas takes two and a half million."""

_NOT_HERE = "If another package adds what is unknown here, install that package beside ddpm; else the config is damaged."
_DAMAGED = "It is damaged: restore it, or use another one."


OpenSource = Callable[[str, str], Mapping[str, Any]]
"""Looks for what `start.weights` names: a path or a run's name as written, and who wrote it. It gives nested tables: `[start]` with
where that lies, and the sections OF_A_MODEL that it was trained with."""
WEIGHTS = "start.weights"


@dataclass(frozen=True)
class Resolved:
    """Hold a valid config and where each of its values came from.

    Attributes:
        config: All sections.
        origins: Dotted key to "default", "preset NAME", the TOML file's path, "--set" or a flag such as "--lr".
    """

    config: Config
    origins: Mapping[str, str]


def load_config(
    *,
    preset: str | None = None,
    file: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, tuple[Any, str]] | None = None,
    open_source: OpenSource | None = None,
) -> Resolved:
    """Resolve a config: defaults < preset, or else the source of start.weights < TOML file < `--set` and flags.

    Args:
        preset: Name of a preset; takes the place of the one that the file may name by a top-level `preset = "..."`.
        file: TOML file.
        sets: `section.key=value` texts.
        flags: Dotted key to (value, flag's name); a value of None was not given.
        open_source: Finds what start.weights names; without it that is left alone.
    Raises:
        ConfigError: With all faults of all layers.
        RequestError: If there is nothing where start.weights says.
    """
    faults: list[Fault] = []
    tree = read_toml(file, "--config", faults) if file else {}
    named = tree.pop("preset", None)
    base = preset_tree(preset, "--preset", faults) if preset is not None else preset_tree(named, str(file), faults)
    whole = not faults
    has_preset = preset is not None or named is not None
    preset = as_known(str(named if preset is None else preset), preset_names())
    layers = [
        layer_from_tree(base, f"preset {preset}", faults),
        layer_from_tree(tree, str(file), faults),
        layer_from_user(sets, flags or {}, faults),
    ]
    if not whole:  # without a layer, what the others set may look wrong and be right
        raise config_error(faults)
    if open_source is not None:
        layers = with_source(layers, open_source, faults, has_preset=has_preset)
    return _resolve(layers, faults)


def with_source(layers: Sequence[Layer], open_source: OpenSource, faults: list[Fault], *, has_preset: bool) -> list[Layer]:
    """Put the source of start.weights among the layers: the sections of its model below them, and above them where it lies.

    Args:
        layers: The lowest first.
        open_source: Finds what they name, if they name one.
        faults: Gets what is wrong with its sections.
        has_preset: Whether a preset says what the model is.
    Raises:
        RequestError: If there is nothing of that name.
    """
    named = [layer[WEIGHTS] for layer in layers if WEIGHTS in layer][-1:]
    if not named or named[0].value is None:
        return [*layers]
    written, origin = str(named[0].value), named[0].origin
    tree = open_source(written, origin)
    below = {} if has_preset else layer_from_tree({name: tree[name] for name in OF_A_MODEL}, written, faults)
    return [below, *layers, layer_from_tree({"start": tree["start"]}, origin, faults)]


def from_toml_text(text: str, source: str = "config") -> Config:
    """Read the config that a stored TOML text holds, as `to_toml` wrote it.

    Args:
        text: TOML.
        source: What to call it in an error.
    Raises:
        ConfigError: With all its faults.
    """
    faults: list[Fault] = []
    tree = _parse(text, source, faults)
    if faults:
        raise config_error(faults)
    _add_what_was_meant(tree)
    resolved = validate_layers([layer_from_tree(tree, source, faults)], faults, stored=True)
    if resolved is None or faults:
        is_missing = any(fault.reason.startswith("unknown") for fault in faults)
        raise config_error(faults, _NOT_HERE if is_missing else REMEDY)
    config = resolved.config
    if missing := [name for name in OF_A_MODEL if name not in tree]:
        raise config_error([Fault(name, "is missing, but a stored config is complete", source) for name in missing], _DAMAGED)
    if isinstance(config.schedule, TableSchedule) and config.schedule.path is not None:
        # to_toml never writes one: a stranger's config must not have us open files of this machine.
        raise config_error([Fault("schedule.path", "names a file outside, where a stored config holds the betas", source)])
    if config.sample.guide.model is not None:  # likewise
        raise config_error([Fault("sample.guide.model", "names another model, which a stored config must not", source)])
    return config


MEANT_BEFORE = {
    "folder": {"splits": "old", "range": "dtype"},
    "arrays": {"take": "first", "range": "dtype"},
    "archive": {"range": "dtype"},
    "huggingface": {"range": "dtype"},
    "celeba": {"range": "dtype"},
    "slices": {"range": "dtype"},
}
"""Keys of `[data]` that the configs of older runs lack, with what was done when they were written, by kind."""


def _add_what_was_meant(tree: dict[str, Any]) -> None:
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("kind"), str):
        tree["data"] = MEANT_BEFORE.get(data["kind"], {}) | data
    for section in ("sample", "train"):
        spacing: Any = tree
        for key in (section, "sampler", "spacing"):
            spacing = spacing.get(key) if isinstance(spacing, dict) else None
        if isinstance(spacing, dict) and spacing.get("kind") in ("karras", "logsnr"):
            spacing.setdefault("max_sigma", "none")  # they began at the schedule's largest sigma


def override(
    config: Config, *, sets: Sequence[str] = (), flags: Mapping[str, tuple[Any, str]] | None = None, stored: bool = True
) -> Config:
    """Replace some values of a config by `--set` and flags (see `load_config`).

    Args:
        config: That of a model, or of a run that goes on.
        sets: `section.key=value` texts.
        flags: Dotted key to (value, flag's name).
        stored: See `validate_layers`; not so where the result is to be trained anew.
    Raises:
        ConfigError: With all faults.
    """
    faults: list[Fault] = []
    layers = [layer_from_tree(config.model_dump(mode="json"), "the run's config", []), layer_from_user(sets, flags or {}, faults)]
    return _resolve(layers, faults, stored=stored).config


def _resolve(layers: Sequence[Layer], faults: Sequence[Fault], *, stored: bool = False) -> Resolved:
    """Merge the layers over the defaults and validate the result."""
    found = list(faults)
    resolved = validate_layers(layers, found, stored=stored)
    if resolved is None or found:
        raise config_error(found)
    return resolved


def validate_layers(layers: Sequence[Layer], faults: list[Fault], *, stored: bool = False) -> Resolved | None:
    """Merge layers over the defaults, the last one highest, and validate the result.

    Args:
        layers: See `layers.layer_from_tree`.
        faults: Gets what is wrong with the result.
        stored: It is that of a model that was trained already, perhaps with what is not installed here.
    Returns:
        The config, or None if there is a fault in it.
    """
    merged = layer_from_tree(Config().model_dump(mode="json", exclude_none=True), DEFAULT, [])
    for layer in layers:
        merged = merge(merged, layer)
    try:
        config = Config.model_validate(tree_from_layer(merged), context={STORED: stored})
    except ValidationError as error:
        origins = {key: entry.origin for key, entry in merged.items()}
        kinds = {path: str(merged[f"{path}.kind"].value) for path in choices() if f"{path}.kind" in merged}
        details = without_echoes(error.errors(include_url=False))
        faults += [translate(detail, origins, kinds) for detail in details[:MOST_FAULTS]]
        faults += [untold(detail) for detail in details[MOST_FAULTS:]]
        return None
    values = layer_from_tree(config.model_dump(mode="json"), DEFAULT, [])
    return Resolved(config, {key: merged.get(key, entry).origin for key, entry in values.items()})


def preset_tree(name: Any, origin: str, faults: list[Fault]) -> dict[str, Any]:
    """Read the nested tables of a preset, none for None; an unknown name is added to `faults`, as coming from `origin`."""
    if name is None:
        return {}
    known = meant(str(name), preset_names())
    if known is None:
        faults.append(Fault("preset", f'unknown preset "{name}"; {nearest(str(name), preset_names())}', origin))
        return {}
    return tomllib.loads(preset_text(known))


def read_toml(file: Path, origin: str, faults: list[Fault]) -> dict[str, Any]:
    """Read the nested tables of a TOML file; why it cannot be read is added to `faults`, as coming from `origin`."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        faults.append(Fault("", f"{file}: no such file", origin))
    except OSError as error:
        faults.append(Fault("", f"{file}: cannot be read: {error.strerror}", origin))
    else:
        if len(content) > MAX_FILE_BYTES:
            faults.append(Fault("", f"{file}: larger than {MAX_FILE_BYTES:,} bytes, so hardly a config", origin))
            return {}
        try:
            return _parse(content.decode("utf-8-sig"), str(file), faults)
        except UnicodeDecodeError as error:
            faults.append(Fault("", f"{file}: is not UTF-8 text (byte {error.start})", origin))
    return {}


def _parse(text: str, source: str, faults: list[Fault]) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except UnreadableError as error:
        faults.append(Fault("", f"{source}: {error}"))
    return {}
