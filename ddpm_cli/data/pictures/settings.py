"""Hold pictures that are still encoded, from a folder or another collection, before anything has been read of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import readable
from ddpm_cli.core.io.paths import LONGEST_SHOWN
from ddpm_cli.data.ranges import Range


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """Say what becomes of pictures.

    Attributes:
        size: Height and width; None if all have the same already.
        channels: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; None takes what all of them have.
        background: What shows through transparent parts: white, black or #rrggbb.
        small: What becomes of pictures smaller than `size`.
        held_out: Share of the pictures that are not trained on, in [0, 1), where the collection has no split of its own.
        range: Which values are black and white; see `ranges.Range`.
        strict: Refuse a collection in which some cannot be read, instead of leaving these out.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    background: str = "white"
    small: Literal["refuse", "skip", "enlarge"] = "refuse"
    held_out: float = 0.1
    strict: bool = False
    range: Range = "auto"


@dataclass(frozen=True, eq=False)
class Pictures:
    """Hold a collection of N encoded pictures.

    Attributes:
        name: What it is called.
        source: Where it came from, a phrase for people.
        names: Name of each picture, unique.
        labels: Classes, int64 [N]; all 0 where there are none.
        class_names: Name of each class; empty where there are none.
        held_out: Which pictures the collection itself holds out, bool [N]; None if it has no split.
        fingerprint: Hexadecimal; changes whenever the pictures may have changed, though nothing of them is read for it.
        read: The bytes of picture i; raises UnreadableError or OSError.
        check: The command that says more about it; empty if there is none.
        fingerprint_now: Takes the fingerprint anew; None where the pictures stay as they were found.
        notices: What the user must know about the collection.
        ignored_files: Files beside the pictures that are none.
        layout: What was recognised in the names of folders, a phrase for people; empty if they are classes or there are none.
        in_order: Reads all pictures from the first to the last as they lie in a file, each with its number, for a collection of
            which no picture can be read alone without what lies before it; a picture that is missing has no bytes. None otherwise.
    """

    name: str
    source: str
    names: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    held_out: NDArray[np.bool_] | None
    fingerprint: str
    read: Callable[[int], bytes]
    check: str = ""
    fingerprint_now: Callable[[], str] | None = None
    notices: tuple[str, ...] = ()
    ignored_files: int = 0
    layout: str = ""
    in_order: Callable[[], Iterator[tuple[int, bytes]]] | None = None

    def __len__(self) -> int:
        return len(self.names)


def printable(name: str) -> str:
    """Write a name for JSON and tables: `readable`, with question marks for characters that steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in readable(name))


def shown(name: str) -> str:
    """Write a name for messages: `printable`, and of a long one the beginning, where it lies, and the end, which tells it apart."""
    text, half = printable(name), LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}...{text[-half:]} ({len(text):,} characters)"
