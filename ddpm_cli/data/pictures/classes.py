"""Find classes by name, as people type them, and number those of a table."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.pictures.settings import printable
from ddpm_cli.errors import DataError, RequestError

PARTING = "\0"
LONGEST_NUMBER = 18
LONGEST_FILE_NAME = 100
"""Bytes of a class's part of a file name, which may have 255 in all."""
MOST_LISTED, MOST_COMPARED = 50, 5_000
USUAL_NAMES = frozenset({"label", "labels", "class", "classes", "category", "target", "fine_label"})
"""Of columns that hold classes."""

ANOTHER_COLUMN = "Name a column of whole numbers or texts with --set data.label_column=COLUMN."


def find_class(text: str, class_names: Sequence[str]) -> int:
    """Find the class that a name or number stands for; case, spaces and punctuation matter only where names differ in them alone.

    They matter in numbers: "1,2", "1-2" and "1.0" are neither 12 nor 10, and "-1" is not 1.

    Args:
        text: Such as "3", "bag" or "ankle-boot". A class whose name is a number goes before the class of that number.
        class_names: Name of each class.
    Returns:
        Its number, in [0, len(class_names)).
    Raises:
        RequestError: If there is no such class, with the nearest name.
    """
    text = text if text in class_names else text.strip()
    composed, plain_names = [_composed(name) for name in class_names], [_plain(name) for name in class_names]
    is_number = text.isascii() and text.isdigit() and text == str(int(text[:LONGEST_NUMBER]))
    if _composed(text) in composed:
        return composed.index(_composed(text))
    if (is_number or any(map(str.isalpha, text))) and plain_names.count(_plain(text)) == 1:
        return plain_names.index(_plain(text))
    if is_number and int(text) < len(class_names):
        return int(text)
    close = difflib.get_close_matches(_plain(text), _compared(_plain(text), plain_names), n=1, cutoff=0.5)
    nearest = f'The nearest is "{class_names[plain_names.index(close[0])]}". ' if close else ""
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(class_names[:MOST_LISTED]))
    rest = f" and {len(class_names) - MOST_LISTED:,} more" if len(class_names) > MOST_LISTED else ""
    raise RequestError(f'There is no class "{text}".', f"{nearest}Classes: {listed}{rest}.")


def _compared(text: str, names: Sequence[str]) -> Sequence[str]:
    """The names that one may be meant for: of many, those that begin alike, because comparing all would take seconds."""
    return names if len(names) <= MOST_COMPARED else [name for name in names if name[:2] == text[:2]][:MOST_COMPARED]


def file_names(class_names: Sequence[str]) -> list[str]:
    """Make a part of a file name for each class that any file system takes, no two the same in any case of their letters."""
    found: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(class_names):
        short = _legal(name)
        while short.casefold() in taken:
            short = f"{short}-{number}"
        found.append(short)
        taken.add(short.casefold())
    return found


def _legal(name: str) -> str:
    text = re.sub(r"[^\w+-]+", "_", _composed(name)).strip("_") or "_"
    return text.encode("utf-8", "replace")[:LONGEST_FILE_NAME].decode("utf-8", "ignore")


def _plain(name: str) -> str:
    """Letters and digits alone, without case; what parts two digits, and the sign before a number, stay."""
    kept = re.sub(r"(?<=\d)[\W_]+(?=\d)|(?<![^\W_])[-+\u2212](?=\d)", PARTING, _composed(name).casefold())
    return "".join(letter for letter in kept if letter.isalnum() or letter == PARTING)


def _composed(name: str) -> str:
    """Accents in one with their letters, as keyboards write them; folders' names on macOS may hold them apart."""
    return unicodedata.normalize("NFC", name)


def numbered(found: Sequence[int | str], names: Sequence[str], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give the classes of a table numbers from 0 without gaps, in their order.

    Args:
        found: Class of each picture, as it is stored.
        names: Name of each number, if there are names.
        where: The table, for messages.
    Returns:
        The number of each, int64 [N], and the name of each class; none if there is one class.
    Raises:
        DataError: If some are numbers and some are texts.
    """
    if len({isinstance(value, str) for value in found}) > 1:
        raise DataError(f"{where} holds both numbers and texts.", ANOTHER_COLUMN)
    present = sorted(set(found))
    if len(present) < 2:
        return np.zeros(len(found), np.int64), ()
    numbers = {value: number for number, value in enumerate(present)}
    labels = np.fromiter((numbers[value] for value in found), np.int64, len(found))

    def name(value: int | str) -> str:
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else str(value)

    return labels, tuple(printable(name(value)) for value in present)
