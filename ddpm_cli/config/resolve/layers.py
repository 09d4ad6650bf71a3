"""Merge the layers a config is made of: each sets some keys, and a higher one wins.

A layer maps dotted keys to values with their origin. Merging knows the four rules that go beyond key by key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ddpm_cli.config.resolve.faults import LISTED_STEPS, Fault, shown
from ddpm_cli.config.resolve.outline import NONE, choices, default_of, is_choice, is_shared, join, sections, types_of, words_of
from ddpm_cli.core.io.files import readable
from ddpm_cli.core.names import as_known

if TYPE_CHECKING:
    from pydantic import BaseModel

SAMPLERS = ("sample.sampler", "train.sampler")
ALL_STEPS = "schedule.timesteps"
SAMPLE_STEPS = "sample.sampler.steps"
OTHER_STEPS = (SAMPLE_STEPS, "sample.sampler.spacing.")
"""What else says which steps a sampler visits."""
BUDGET = frozenset({"train.epochs", "train.steps", "train.minutes"})


class Entry(NamedTuple):
    """Hold a value and who set it."""

    value: Any
    origin: str


Layer = dict[str, Entry]


def layer_from_tree(tree: Mapping[str, Any], origin: str, faults: list[Fault], path: str = "") -> Layer:
    """Make the layer of nested tables; what stands where a section should is added to `faults`."""
    layer: Layer = {}
    for name, value in tree.items():
        key = join(path, name)
        if key not in sections():
            layer[key] = Entry(_plain(key, value, origin, faults), origin)
        elif isinstance(value, Mapping):
            layer |= layer_from_tree(value, origin, faults, key)
        elif is_choice(key) and isinstance(value, str):
            layer[f"{key}.kind"] = Entry(as_spelt(key, value), origin)
        else:
            faults.append(Fault(key, f"is a section and holds keys, it cannot be {shown(value)}", origin))
    return layer


def flatten(config: BaseModel) -> dict[str, Any]:
    """List every value of a config by its dotted key, as JSON has it; an unset one is "none"."""
    layer = layer_from_tree(config.model_dump(mode="json"), "", [])
    return {key: NONE if entry.value is None else entry.value for key, entry in layer.items()}


def _plain(key: str, value: Any, origin: str, faults: list[Fault]) -> Any:
    """A value in Python's terms: "none" stands for None, which TOML lacks, and true is no number."""
    types, value = types_of(key), as_spelt(key, value)
    if isinstance(value, str) and value.casefold() == NONE and type(None) in types:
        return None
    if isinstance(value, bool) and types and bool not in types:
        faults.append(Fault(key, f"cannot be {shown(value)}", origin))
    return value


def as_spelt(key: str, value: Any) -> Any:
    """Spell a value as the config does: in words, and lists of words, that the key may have, case and dashes do not matter."""
    if isinstance(value, str):
        return as_known(value, words_of(f"{key}.kind" if is_choice(key) else key))
    return [as_spelt(key, item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def layer_from_user(sets: Sequence[str], flags: Mapping[str, tuple[Any, str]], faults: list[Fault]) -> Layer:
    """Make the layer of the command line.

    Args:
        sets: `section.key=value` texts; of two for the same key the last counts.
        flags: Dotted key to (value, flag); a value of None was not given.
        faults: Gets what is wrong with them.
    """
    named: Layer = {}
    for key, (value, flag) in flags.items():
        if value is not None:
            named |= layer_from_tree(_nest(key, value), flag, faults)
    free: Layer = {}
    for text in sets:
        free |= _layer_from_set(text, faults)
    for key in named.keys() & free.keys():
        if named[key].value != free[key].value:
            faults.append(
                Fault(key, f"is set twice: {shown(named[key].value)} and {shown(free[key].value)}", f"{named[key].origin}, --set")
            )
    return free | named


def _layer_from_set(text: str, faults: list[Fault]) -> Layer:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value or not all(key.split(".")):
        faults.append(Fault("", f"{shown(text)} is not of the form section.key=value", "--set"))
        return {}
    if key != readable(key):
        faults.append(Fault("", f'"{readable(key)}" is no key: it is not UTF-8 text', "--set"))
        return {}
    try:
        return layer_from_tree(_nest(key, parse_value(value)), "--set", faults)
    except ValueError as error:
        faults.append(Fault(key, f"{shown(value)} is no TOML value: {error}", "--set"))
    except RecursionError:
        faults.append(Fault(key, "is nested too deeply", "--set"))
    return {}


def parse_value(text: str) -> Any:
    """Parse a value as TOML writes it; a bare word is text.

    Raises:
        ValueError: If it starts like a list, table or quoted text and is none.
    """
    try:
        tree = tomllib.loads(f"value = {text}")
    except ValueError:
        if text[0] in "[{\"'":
            raise
        return text
    return tree["value"] if len(tree) == 1 else text


def _nest(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def merge(lower: Layer, higher: Layer) -> Layer:
    """Lay one layer over another.

    Four rules beyond key by key: where the higher layer names another kind, the lower layer's options were for the old kind and
    go, unless `is_shared`; a budget (epochs, steps, minutes) replaces the lower layer's whole budget; a list of a sampler's
    steps replaces what the lower layer says of them; and their number, or that of all steps that there are, the lower layer's list.
    """
    gone = set(BUDGET) if BUDGET & higher.keys() else set()
    if LISTED_STEPS in higher:
        gone |= {key for key in lower if key.startswith(OTHER_STEPS)}
    others = _has_other_steps(lower, higher)
    for sampler in SAMPLERS:
        if (others or f"{sampler}.steps" in higher) and f"{sampler}.spacing.timesteps" in lower:
            gone |= {key for key in lower if key.startswith(f"{sampler}.spacing.")}
    if others or SAMPLE_STEPS in higher:
        gone.add(LISTED_STEPS)
    for path in choices():
        kind = f"{path}.kind"
        if kind in higher and kind in lower and higher[kind].value != lower[kind].value:
            gone |= {key for key in lower if key.startswith(f"{path}.") and not is_shared(key, higher[kind].value)}
    return {key: entry for key, entry in lower.items() if key not in gone} | higher


def _has_other_steps(lower: Layer, higher: Layer) -> bool:
    """Whether the schedule of the higher layer has another number of steps than that which the lists of the lower one are for."""
    if ALL_STEPS not in higher:
        return False
    before = lower[ALL_STEPS].value if ALL_STEPS in lower else default_of(ALL_STEPS, "linear")  # as of every kind
    return bool(higher[ALL_STEPS].value != before)


def tree_from_layer(layer: Layer) -> dict[str, Any]:
    """Nest the keys of a layer in tables."""
    tree: dict[str, Any] = {}
    for key, entry in layer.items():
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = entry.value
    return tree
