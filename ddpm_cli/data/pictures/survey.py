"""Look first at every picture of a collection: its content's sum, its size and kind; of a million pictures a few arrays."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.decode import Header, Levels, quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.reading import Read, over_pictures
from ddpm_cli.data.pictures.settings import Pictures, shown
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import DataProgress, Listener, ignore

NO_HASH = b"\0" * 32
UNKNOWN = -1.0
DEEP_VERSION = b"\0depth kept"
"""In the sum of collections with more than 8 bits, of which earlier versions kept 8."""


@dataclass(eq=False)
class Survey:
    """Hold what is known of N pictures.

    Attributes:
        content: Sum over the names below the folder around all, classes, splits and bytes of all pictures, hexadecimal.
        hashes: First 64 bits of the sum of each picture's bytes, uint64 [N]: random, and equal for equal files.
        heights: int32 [N], as seen; 0 where it cannot be read.
        widths: int32 [N].
        channels: 1 grey, 3 colour, uint8 [N].
        broken: Why a picture cannot be read, by its number.
        modes: How many pictures there are of each of Pillow's modes.
        formats: How many there are of each file format.
        depths: As `Header.depth`, uint8 [N].
        lows: The smallest value of each picture, float64 [N].
        highs: The largest; UNKNOWN of those of 8 bits that nobody looked into.
        said_lows: What each file says that the smallest of its values may be, float64 [N]; NaN if it says nothing.
        said_highs: Likewise the largest.
        cut: Of which fewer bits are read than they have, bool [N].
        several: Which hold further pages or frames, bool [N].
        converted: Which are converted from a colour profile, bool [N].
        strange_profiles: Which hold a colour profile that cannot be used, bool [N].
        profiles: How many are converted from each profile.
        pixel_hashes: As `hashes`, but of the size and pixels, uint64 [N]; only after a thorough survey.
    """

    content: str
    hashes: NDArray[np.uint64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    channels: NDArray[np.uint8]
    broken: dict[int, str]
    modes: Counter[str]
    formats: Counter[str]
    depths: NDArray[np.uint8]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    said_lows: NDArray[np.float64]
    said_highs: NDArray[np.float64]
    cut: NDArray[np.bool_]
    several: NDArray[np.bool_]
    converted: NDArray[np.bool_]
    strange_profiles: NDArray[np.bool_]
    profiles: Counter[str]
    pixel_hashes: NDArray[np.uint64] | None = None

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Tell which pictures can be read as far as is known, bool [N]."""
        result = np.ones(len(self.hashes), np.bool_)
        result[list(self.broken)] = False
        return result


class _Look(NamedTuple):
    digest: bytes
    header: Header | None
    reason: str = ""
    pixels: bytes = NO_HASH
    levels: Levels | None = None


def survey(pictures: Pictures, on_event: Listener = ignore, *, thorough: bool = False) -> Survey:
    """Look at every picture once.

    Args:
        pictures: The collection.
        on_event: Told of the progress.
        thorough: Also decode them all, which finds every damaged one; else only the headers are read of those of 8 bits.
    """
    count = len(pictures)
    found = Survey(
        "",
        np.zeros(count, np.uint64),
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, np.uint8),
        {},
        Counter(),
        Counter(),
        np.full(count, 8, np.uint8),
        np.zeros(count),
        np.full(count, UNKNOWN),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        Counter(),
        np.zeros(count, np.uint64) if thorough else None,
    )
    digests = bytearray(count * len(NO_HASH))
    decoders = Decoders()
    work = partial(_look, thorough, decoders)
    with quiet_decoders(), closing(over_pictures(work, pictures, range(count), decoders.close)) as looks:
        for done, (number, look) in enumerate(looks):
            digests[number * len(NO_HASH) : (number + 1) * len(NO_HASH)] = look.digest
            _note(found, number, look)
            on_event(DataProgress(done + 1, count, "reading pictures"))
    found.content = _content(pictures, digests, is_deep=bool((found.depths != 8).any()))
    return found


def _content(pictures: Pictures, digests: bytearray, *, is_deep: bool) -> str:
    content, around = hashlib.sha256(), len(_common_folder(pictures.names))
    held_outs = [False] * len(pictures) if pictures.held_out is None else pictures.held_out.tolist()
    for number, (name, label, held_out) in enumerate(zip(pictures.names, pictures.labels.tolist(), held_outs, strict=True)):
        about = f"\0{label}\0{int(held_out)}\0"
        content.update(name[around:].encode("utf-8", "surrogateescape") + about.encode())
        content.update(digests[number * len(NO_HASH) : (number + 1) * len(NO_HASH)])
    if is_deep:
        content.update(DEEP_VERSION)
    return content.hexdigest()


def _common_folder(names: Sequence[str]) -> str:
    """The folder around all names, which an archive may have and the folder that it was made of has not."""
    first, last = (name.split("/")[:-1] for name in (min(names, default=""), max(names, default="")))
    return "".join(f"{part}/" for part, _ in takewhile(lambda both: both[0] == both[1], zip(first, last, strict=False)))


def _look(thorough: bool, decoders: Decoders, read: Read, number: int) -> _Look:
    digest = NO_HASH
    try:
        content = read()
        digest = hashlib.sha256(content).digest()
        if thorough:
            whole = decoders.read_whole(content)
            return _Look(digest, whole.header, "", whole.digest, whole.levels)
        header = decoders.read_header(content)
        return _Look(digest, header, levels=decoders.read_levels(content) if header.depth != 8 else None)
    except UnreadableError as error:
        return _Look(digest, None, str(error))
    except OSError as error:
        return _Look(digest, None, f"cannot be opened: {error.strerror or error}")


def _note(found: Survey, number: int, look: _Look) -> None:
    found.hashes[number] = _short(look.digest)
    if found.pixel_hashes is not None:
        found.pixel_hashes[number] = _short(look.pixels)
    if look.header is None:
        found.broken[number] = look.reason
        return
    found.heights[number], found.widths[number], found.channels[number] = look.header[:3]
    found.modes[look.header.mode] += 1
    found.formats[look.header.format] += 1
    found.several[number], found.strange_profiles[number] = look.header.several, look.header.strange_profile
    if look.header.profile:
        found.converted[number] = True
        found.profiles[look.header.profile] += 1
    found.cut[number] = look.header.cut
    if look.levels is not None:
        found.depths[number], found.lows[number], found.highs[number], said = look.levels
        if said:
            found.said_lows[number], found.said_highs[number] = said


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")


def read_again(pictures: Pictures, found: Survey, read: Read, number: int) -> bytes:
    """Read the bytes of a picture that the survey could read, if they are still those that it saw.

    Args:
        pictures: The collection.
        found: What is known of it.
        read: Gives the bytes.
        number: Of the picture.
    Raises:
        DataError: If they are not: what is made of others must not go by the name of these.
    """
    name = f"{shown(pictures.names[number])} in {pictures.source}"
    try:
        content = read()
    except (OSError, UnreadableError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{name} could be read a moment ago and now cannot be ({reason}).",
            "Wait until nothing changes there any more, check the disk, and start again.",
        ) from error
    if _short(hashlib.sha256(content).digest()) != found.hashes[number]:
        raise DataError(f"{name} was changed while it was read.", "Wait until nothing writes there any more, and start again.")
    return content


def look_for_bright(pictures: Pictures, found: Survey, rows: NDArray[np.int64], least: float, on_event: Listener = ignore) -> None:
    """Look into pictures until one is bright, the first one of nearly every set, and add their values to what is known.

    Nothing is done if some have more than 8 bits, whose values are known.

    Args:
        pictures: The collection.
        found: What is known of it.
        rows: Numbers of the pictures that are used, int64 [n].
        least: What the largest value of a bright one is at least.
        on_event: Told of the progress.
    """
    if (found.depths[rows] != 8).any() or (found.highs[rows] >= least).any():
        return
    numbers = rows[found.highs[rows] == UNKNOWN].tolist()
    alone = 0 if pictures.in_order else 1  # before threads look into many ahead; it may lie far back in an archive
    if not (alone and _is_one_bright(pictures, found, numbers[:alone], least)):
        _is_one_bright(pictures, found, numbers[alone:], least, on_event)


def _is_one_bright(pictures: Pictures, found: Survey, numbers: list[int], least: float, on_event: Listener = ignore) -> bool:
    decoders = Decoders()
    work = partial(values_of, pictures, found, decoders)
    with quiet_decoders(), closing(over_pictures(work, pictures, numbers, decoders.close)) as values:
        for done, (place, levels) in enumerate(values):
            if levels is not None:
                found.lows[numbers[place]], found.highs[numbers[place]] = levels.low, levels.high
                if levels.high >= least:
                    return True
            on_event(DataProgress(done + 1, len(numbers), "looking for a bright picture"))
    return False


def values_of(pictures: Pictures, found: Survey, decoders: Decoders, read: Read, number: int) -> Levels | None:
    """Read the values of a picture; None of one that is damaged, which is told when it is decoded."""
    try:
        return decoders.read_whole(read_again(pictures, found, read, number)).levels
    except UnreadableError:
        return None


def find_damaged(pictures: Pictures, found: Survey, on_event: Listener = ignore) -> None:
    """Decode every picture whose header could be read, and add those that are damaged further on to `found.broken`.

    Raises:
        DataError: If one has changed meanwhile.
    """
    numbers = np.flatnonzero(found.readable).tolist()
    decoders = Decoders()
    work = partial(_damage, pictures, found, decoders)
    with quiet_decoders(), closing(over_pictures(work, pictures, numbers, decoders.close)) as reasons:
        for done, (place, reason) in enumerate(reasons):
            if reason:
                found.broken[numbers[place]] = reason
            on_event(DataProgress(done + 1, len(numbers), "checking pictures"))


def _damage(pictures: Pictures, found: Survey, decoders: Decoders, read: Read, number: int) -> str:
    try:
        decoders.decode(read_again(pictures, found, read, number), (1, 1, 1), "white")
    except UnreadableError as error:
        return str(error)
    return ""
