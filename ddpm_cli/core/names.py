"""Match names of choices, however they are spelt: find what a name means, and the nearest of those that exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

FEW = 5
CLOSE = 0.5
"""Similarity, of 1, from which on a name is offered instead of another."""


def plain(name: str) -> str:
    """Strip a name of what does not matter in it: case, dashes, underscores and spaces."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def meant(name: str, known: Iterable[str]) -> str | None:
    """Find the one of `known` that a name means: itself, or else the only one that is spelt alike; None if there is none."""
    known = list(known)
    if name in known:
        return name
    alike = [own for own in known if plain(own) == plain(name)]
    return alike[0] if len(alike) == 1 and plain(name) else None


def as_known(name: str, known: Iterable[str]) -> str:
    """Find the one of `known` that a name means; keep the name itself where there is none, for its reader to refuse."""
    return meant(name, known) or name


def listed(text: str, known: Collection[str]) -> list[str]:
    """Split a text into the names that it lists with commas between them, each once and as `known` spells it."""
    return list(dict.fromkeys(as_known(part.strip(), known) for part in text.split(",")))


def nearest(name: str, names: Collection[str], others: Mapping[str, str] | None = None) -> str:
    """Say of a name that is none what it is called here, or the nearest; all of them where they are few or none is near.

    Args:
        name: As typed.
        names: Those that exist.
        others: What other programs' names, in `plain` spelling, are called here.
    """
    if (ours := (others or {}).get(plain(name))) is not None:
        return f"it is called {ours} here"
    close = close_to(name, names)
    every = ", ".join(names)
    if close is None:
        return f"choose from {every}"
    return f'the nearest of {every} is "{close}"' if len(names) <= FEW else f'the nearest is "{close}"'


def close_to(name: str, names: Iterable[str], cutoff: float = CLOSE) -> str | None:
    """Find the one of `names` whose spelling is closest, if any is close."""
    spelt = {plain(own): own for own in names}
    close = difflib.get_close_matches(plain(name), spelt, n=1, cutoff=cutoff)
    return spelt[close[0]] if close else None
