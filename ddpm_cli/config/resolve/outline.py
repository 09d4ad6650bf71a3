"""Map dotted paths to sections and keys of the schema, for layers, faults and TOML output."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.section import Choice, OneOf, Section

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

NONE = "none"  # how TOML and --set write None

Variants = dict[str, type[Section]]


@cache
def sections() -> dict[str, Variants]:
    """Map the dotted path of every section to its classes by kind, or to one class under "" where there is no choice."""
    return dict(_walk("", {"": Config}))


def _walk(path: str, variants: Variants) -> Iterator[tuple[str, Variants]]:
    yield path, variants
    for cls in variants.values():
        for name, field in cls.model_fields.items():
            inner = _variants(field)
            if inner:
                yield from _walk(join(path, name), inner)


def _variants(field: FieldInfo) -> Variants:
    """Find the section classes that a field stands for; none if it is a plain value's."""
    for annotation in field.metadata:
        if isinstance(annotation, OneOf):
            return {**annotation.members}
    cls = field.annotation
    return {"": cls} if isinstance(cls, type) and issubclass(cls, Section) else {}


def is_choice(path: str) -> bool:
    """Tell whether the path is a section whose keys depend on its `kind`."""
    return "" not in sections().get(path, {"": Section})


def is_shared(key: str, kind: object) -> bool:
    """Tell whether an option of one kind is as well one of another that is named in its place."""
    section, _, name = key.rpartition(".")
    named = sections().get(section, {}).get(kind) if isinstance(kind, str) else None
    return named is not None and issubclass(named, Choice) and named.keeps_options and name in named.model_fields


@cache
def choices() -> tuple[str, ...]:
    """List the paths of all sections whose keys depend on their `kind`."""
    return tuple(path for path in sections() if is_choice(path))


@cache
def all_keys() -> dict[str, tuple[str, ...]]:
    """List every settable key by its dotted path, with the kinds that have it (("",) in a section without a choice)."""
    keys: dict[str, tuple[str, ...]] = {}
    for path, variants in sections().items():
        for kind, cls in variants.items():
            for name in cls.model_fields:
                full = join(path, name)
                if full not in sections():
                    keys[full] = (*keys.get(full, ()), kind)
    return keys


def types_of(key: str) -> frozenset[Any]:
    """List the types that a key's value may have, as annotated; none for a key that does not exist."""
    section, _, name = key.rpartition(".")
    annotations = [sections()[section][kind].model_fields[name].annotation for kind in all_keys().get(key, ())]
    return frozenset(member for annotation in annotations for member in (annotation, *get_args(annotation)))


@cache
def words_of(key: str) -> tuple[str, ...]:
    """List the words that a key's value, or an item of it, may be; none where any text will do, or none."""
    section, _, name = key.rpartition(".")
    if name == "kind" and is_choice(section):
        return tuple(sections()[section])
    return tuple(dict.fromkeys(word for kind in types_of(key) for word in _words(kind)))


def _words(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    else:
        for inner in get_args(annotation):
            yield from _words(inner)


def default_of(path: str, kind: str) -> Any:
    """Tell the default of a key in the section class of that kind ("" where there is no choice); None for one that is not here."""
    section, _, name = path.rpartition(".")
    cls = sections()[section].get(kind)
    return cls.model_fields[name].default if cls else None


def join(path: str, name: str) -> str:
    """Make a dotted path one level deeper."""
    return f"{path}.{name}" if path else name
