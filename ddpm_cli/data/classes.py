"""Classes by name, as people type them."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

from ddpm_cli.errors import RequestError

MOST_LISTED, MOST_COMPARED = 50, 5_000


def find_class(text: str, class_names: Sequence[str]) -> int:
    """The class that a name or a number stands for; case, spaces and punctuation matter only where names differ in them alone.

    Args:
        text: Such as "3", "bag" or "ankle-boot". A class whose name is a number goes before the class of that number.
        class_names: Name of each class.
    Returns:
        Its number, in [0, len(class_names)).
    Raises:
        RequestError: If there is no such class, with the nearest name.
    """
    composed, plain_names = [_composed(name) for name in class_names], [_plain(name) for name in class_names]
    if _composed(text) in composed:
        return composed.index(_composed(text))
    if _plain(text) and plain_names.count(_plain(text)) == 1:
        return plain_names.index(_plain(text))
    if text.isascii() and text.isdigit() and int(text) < len(class_names):
        return int(text)
    close = difflib.get_close_matches(_plain(text), _compared(_plain(text), plain_names), n=1, cutoff=0.5)
    nearest = f'The nearest is "{class_names[plain_names.index(close[0])]}". ' if close else ""
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(class_names[:MOST_LISTED]))
    rest = f" and {len(class_names) - MOST_LISTED:,} more" if len(class_names) > MOST_LISTED else ""
    raise RequestError(f'There is no class "{text}".', f"{nearest}Classes: {listed}{rest}.")


def _compared(text: str, names: Sequence[str]) -> Sequence[str]:
    """The names that one may be meant for: of many, those that begin alike, because comparing all would take seconds."""
    return names if len(names) <= MOST_COMPARED else [name for name in names if name[:2] == text[:2]][:MOST_COMPARED]


def _plain(name: str) -> str:
    return "".join(letter for letter in _composed(name).casefold() if letter.isalnum())


def _composed(name: str) -> str:
    """Accents in one with their letters, as keyboards write them; folders' names on macOS may hold them apart."""
    return unicodedata.normalize("NFC", name)
