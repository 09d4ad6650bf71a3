"""Say what is wrong with a config, in plain words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.other_names import KEYS, kinds_called_otherwise
from ddpm_cli.config.resolve.outline import all_keys, is_choice, join, sections
from ddpm_cli.core.names import close_to, nearest, plain
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT = "default"
LIKE_ANOTHER = 0.8
"""Similarity from which on a key was hardly meant for one of another section."""
MOST_FAULTS = 20
"""As many are told of; to look for the key that was meant takes time for each."""
LONGEST_REASON = 2000
"""Characters of a fault that are shown; ours have fewer, but a stranger's key may be of any length."""
LONGEST_VALUE = 200
"""Characters of a value that are shown."""
NOUNS = {"data": "data set", "timesteps": "way to draw timesteps"}
LISTED_STEPS, IN_SPACING = "sample.timesteps", "sample.sampler.spacing.timesteps"
"""A key, and the one that it is short for."""
REMEDY = "`ddpm config show` prints every key with its value."


@dataclass(frozen=True)
class Fault:
    """Hold one thing that is wrong.

    Attributes:
        path: Dotted path of the key or section; empty if the fault belongs to none.
        reason: What is wrong with it.
        origin: The file, preset or flag it came from; empty if unknown.
    """

    path: str
    reason: str
    origin: str = ""

    def __str__(self) -> str:
        reason = _start(self.reason)
        text = f"{_start(self.path)}: {reason}" if self.path else reason
        return f"{text} ({self.origin})" if self.origin else text


def _start(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def config_error(faults: Sequence[Fault], remedy: str = REMEDY) -> ConfigError:
    """Make one error that reports all faults."""
    if len(faults) == 1:
        return ConfigError(str(faults[0]), remedy)
    listed = [f"  {fault}" for fault in faults[:MOST_FAULTS]]
    if len(faults) > MOST_FAULTS:
        listed.append(f"  and {len(faults) - MOST_FAULTS:,} more")
    return ConfigError("\n".join([f"{len(faults):,} faults in the configuration:", *listed]), remedy)


def translate(detail: ErrorDetails, origins: Mapping[str, str], kinds: Mapping[str, str]) -> Fault:
    """Translate one of pydantic's error details into a fault.

    Args:
        detail: An item of `ValidationError.errors()`.
        origins: Where each key was set, by dotted path.
        kinds: The kind chosen in each section that has a choice.
    """
    path = _path(detail["loc"])
    reason = _reason(detail, path, kinds)
    typed, reason = (_as_typed(text, origins) for text in (path, reason))
    return Fault(typed, reason, _origin(typed, origins))


def without_echoes(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out details of lists that are too short only because of an item that is wrong and told of by itself."""
    inside = {detail["loc"][:-1] for detail in details}
    return [detail for detail in details if not (detail["type"] == "too_short" and detail["loc"] in inside)]


def _as_typed(text: str, origins: Mapping[str, str]) -> str:
    """A text that names keys as they were written, where one is short for another."""
    return text.replace(IN_SPACING, LISTED_STEPS) if LISTED_STEPS in origins else text


def untold(detail: ErrorDetails) -> Fault:
    """Make a fault that is counted and not told of, see MOST_FAULTS."""
    return Fault(".".join(map(str, detail["loc"])), detail["msg"])


def _path(location: Sequence[int | str]) -> str:
    """Dotted path of pydantic's location, which also holds the kind of each section with a choice."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (is_choice(path) and part in sections()[path]):
            path = join(path, part)
    return path


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Who set the key, or the keys of the section; nothing if it was not set."""
    key = path.partition("[")[0]
    found = dict.fromkeys(origin for name, origin in origins.items() if name == key or (key and name.startswith(f"{key}.")))
    return ", ".join(origin for origin in found if origin != DEFAULT)


def _reason(detail: ErrorDetails, path: str, kinds: Mapping[str, str]) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return unknown_key(path, detail["input"], kinds)
        case "union_tag_invalid":
            return unknown_kind(path, context["tag"])
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be {_expected(context['expected'])}, not {shown(detail['input'])}"
    if path == "train.batch_size" and detail["input"] == "auto":
        return "must be a whole number here; to have the largest that fits, write --batch-size auto instead"
    template = REASONS.get(detail["type"])
    reason = template(context) if template else detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{reason}, not {shown(detail['input'])}"


REASONS: dict[str, Callable[[dict[str, Any]], str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), lambda _: "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), lambda _: "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "must be true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), lambda _: "must be a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), lambda _: "must be a section"),
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be UTF-8 text",
    "path_type": lambda _: "must be a path",
    "finite_number": lambda _: "must be a finite number",
    "missing": lambda _: "is missing",
    "union_tag_not_found": lambda _: 'needs a "kind"',
    "greater_than": lambda context: f"must be greater than {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"must be at least {_number(context['ge'])}",
    "less_than": lambda context: f"must be less than {_number(context['lt'])}",
    "less_than_equal": lambda context: f"must be at most {_number(context['le'])}",
    "too_short": lambda context: f"needs at least {context['min_length']} values",
    "too_long": lambda context: f"takes at most {context['max_length']} values",
}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _expected(expected: str) -> str:
    """The list of allowed values, quoted as TOML quotes."""
    return expected.replace("'", '"')


def shown(value: Any) -> str:
    """Write a value as TOML and JSON do, its start if it is long."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def unknown_kind(path: str, kind: str) -> str:
    """Tell why a kind is none, with those that exist."""
    name = path.rpartition(".")[2]
    return f'unknown {NOUNS.get(name, name)} "{kind}"; {nearest(kind, sections()[path], kinds_called_otherwise(path))}'


def unknown_key(path: str, value: Any, kinds: Mapping[str, str]) -> str:
    """Tell why a key is none, with the one that was probably meant."""
    section, _, name = path.rpartition(".")
    noun = "section" if isinstance(value, dict) else "key"
    owners = all_keys().get(path)
    if owners:
        return f'the kind "{kinds[section]}" has no such key; {_listed(owners)} {"has" if len(owners) == 1 else "have"} it'
    siblings = sections()[section][kinds.get(section, "")].model_fields
    ours = KEYS.get(plain(name), "")
    near = ours.rpartition(".")[2] if ours.rpartition(".")[0] == section else close_to(name, siblings, LIKE_ANOTHER)
    if near in siblings:
        return f'unknown {noun}; the nearest is "{near}"'
    if ours:
        return f'unknown {noun}; it is called "{ours}" here'
    if elsewhere := [key for key in all_keys() if key.rpartition(".")[2] == name]:
        return f"unknown {noun}; it is a key of another section: {_listed(elsewhere)}"
    return f"unknown {noun}; {nearest(name, siblings)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)
