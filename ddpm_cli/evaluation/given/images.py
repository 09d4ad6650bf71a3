"""Read images that any program has made: a folder of pictures, or an .npz or .npy file; a few are in memory at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_archives import read_keys, read_member
from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.files import UnreadableError, input_errors
from ddpm_cli.core.threads import in_parallel
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.decode import quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.plan import decoded
from ddpm_cli.data.pictures.set_scale import SetScale, choose_set_scale
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, shown
from ddpm_cli.data.pictures.survey import Survey, survey
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import EvaluateProgress, Listener, Notice, ignore

KEYS = ("arr_0", "images")
"""What an archive may call its images: as guided-diffusion's evaluator and `ddpm sample --npz` do, and as data sets of ours."""
AT_ONCE = 256
BACKGROUND = "white"
"""What shows through transparent pictures, as in training."""
_WANTED = "Give uint8 [N, H, W, 3] in [0, 255] as arr_0, as numpy.savez writes them."
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Hold N images, read when they are asked for; an index of rows gives them as uint8 [B, C, H, W].

    Attributes:
        name: Of the file or folder.
        path: Where they are.
        count: N.
        shape: Channels (1 or 3), height and width.
        read: Reads some rows, int64 [B], as uint8 [B, C, H, W].
        on_event: Told of the progress of the sum.
    """

    name: str
    path: Path
    count: int
    shape: tuple[int, int, int]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    on_event: Listener = ignore

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.read(rows)

    @property
    def sha256(self) -> str:
        """Sum the bytes of all images in C order, as `images_sha256` does."""
        return self._facts[0]

    @property
    def is_grey(self) -> bool:
        """Tell whether the channels of each image are equal."""
        return self._facts[1]

    @cached_property
    def _facts(self) -> tuple[str, bool]:
        digest, grey = hashlib.sha256(), True
        for batch in self.batches():
            digest.update(batch.data)
            grey = grey and bool((batch == batch[:, :1]).all())
        return digest.hexdigest(), grey

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """Read all images, a few at a time, in order."""
        for start in range(0, self.count, AT_ONCE):
            stop = min(start + AT_ONCE, self.count)
            yield np.ascontiguousarray(self.read(np.arange(start, stop)))
            self.on_event(EvaluateProgress(f"reading {self.name}", stop, self.count, "images"))

    def first(self, n: int) -> GivenImages:
        """Keep the first n images.

        Raises:
            DataError: If there are fewer.
        """
        if n > self.count:
            raise DataError(f"{self.path} holds {counted(self.count)}, not {n:,}.", "Lower --n, or leave it out to take all.")
        return self if n == self.count else replace(self, count=n)

    def with_channels(self, channels: int) -> GivenImages:
        """Repeat grey images as colour ones, or take one channel of colour ones that are grey in truth.

        Raises:
            DataError: If they have colours that would be lost.
        """
        own = self.shape[0]
        if channels == own:
            return self
        if own != 1 and not self.is_grey:
            raise DataError(
                f"The images of {self.path} are coloured, and those that they are compared with are grey.",
                "Make them grey, or ask for metrics of Inception, which sees grey images as colour ones.",
            )
        read = self.read
        if channels == 1:
            return replace(self, shape=(1, *self.shape[1:]), read=lambda rows: read(rows)[:, :1])
        return replace(self, shape=(channels, *self.shape[1:]), read=lambda rows: read(rows).repeat(channels, axis=1))


def read_images(path: Path, on_event: Listener = ignore, scale: Scale | None = None) -> GivenImages:
    """Read the images of a folder, or of an .npz or .npy file.

    Those of a folder are in the order of their names, in which numbers count as such: 2.png comes before 10.png.

    Args:
        path: The folder or file.
        on_event: Told of the progress.
        scale: Of what they are compared with; pictures of more than 8 bits are seen by it. None sees them by their own.
    Raises:
        DataError: If there are none, or they are not all of one size, uint8, and grey or RGB.
    """
    return _of_folder(path, on_event, scale) if path.is_dir() else _of_file(path, on_event)


def has_images(path: Path) -> bool:
    """Tell whether an archive holds images.

    Raises:
        DataError: If it is no archive.
    """
    with input_errors(path, DataError, _WANTED):
        return not set(KEYS).isdisjoint(read_keys(path))


# ----------------------------------------------------------------------------------------------------------------- arrays


def _of_file(path: Path, on_event: Listener) -> GivenImages:
    with input_errors(path, DataError, _WANTED):
        is_archive = path.suffix.lower() == ".npz"
        keys = read_keys(path) if is_archive else ()
        key = next((key for key in KEYS if key in keys), None)
        if is_archive and key is None:
            raise DataError(f"{path} has no array {' or '.join(KEYS)}, only {first_few(keys) or 'nothing'}.", _WANTED)
        array = read_member(path, key) if key else read_array(path, mapped="c")
    pixels = _as_images(array, path, key or "the array")
    return GivenImages(path.name, path, len(pixels), pixels.shape[1:], lambda rows: np.ascontiguousarray(pixels[rows]), on_event)


def _as_images(array: NDArray[np.generic], path: Path, key: str) -> NDArray[np.uint8]:
    """The array as uint8 [N, C, H, W]; [N, H, W, C] is what every program writes, unless only the other order makes sense."""
    if array.dtype != np.uint8:
        some = array[: AT_ONCE * 4] if array.ndim else array
        seen = f" from {some.min():.4g} to {some.max():.4g}" if some.size and some.dtype.kind in "biuf" else ""
        raise DataError(f"{path}: {key} are {array.dtype}{seen}, not uint8.", _WANTED)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not array.size:
        raise DataError(f"{path}: {key} of shape {list(array.shape)} are no images.", _WANTED)
    pixels = array if array.shape[1] in (1, 3) and array.shape[3] not in (1, 3) else array.transpose(0, 3, 1, 2)
    if pixels.shape[1] not in (1, 3):
        raise DataError(
            f"{path}: {key} of shape {list(array.shape)} have {pixels.shape[1]} channels, not 1 or 3.",
            "Lay images with alpha over a background, and keep three channels.",
        )
    return pixels  # type: ignore[return-value]  # its dtype was looked at


# --------------------------------------------------------------------------------------------------------------- pictures


def _of_folder(root: Path, on_event: Listener, wanted: Scale | None) -> GivenImages:
    pictures = scan_folder(root, "none")
    for notice in pictures.notices:
        on_event(Notice(notice, important=True))
    found = survey(pictures, on_event)
    if found.broken:
        named = [f"{shown(pictures.names[number])} {reason}" for number, reason in found.broken.items()]
        raise DataError(
            f"{counted(len(named), 'picture')} of {root} cannot be read: {first_few(named)}.",
            "Remove or repair them: a figure is of all pictures or of none.",
        )
    sizes = sorted({*zip(found.heights.tolist(), found.widths.tolist(), strict=True)})
    if len(sizes) > 1:
        raise DataError(
            f"The pictures of {root} have several sizes: {first_few([f'{height}x{width}' for height, width in sizes])}.",
            "Bring them to one size, as they would be judged.",
        )
    shape = (int(found.channels.max()), *sizes[0])
    order = sorted(range(len(pictures)), key=lambda number: _place(pictures.names[number]))
    scale = _scale(pictures, found, shape, wanted, on_event)
    reader = _Reader(pictures, np.array(order, np.int64), shape, scale, found.depths)
    return GivenImages(root.name or str(root), root, len(pictures), shape, reader, on_event)


def _scale(pictures: Pictures, found: Survey, shape: tuple[int, int, int], wanted: Scale | None, on_event: Listener) -> SetScale:
    """The scale of pictures of more than 8 bits, of which 8 are looked at; those of 8 are judged as they are."""
    if (found.depths == 8).all():
        return SetScale()
    if wanted not in (None, USUAL):
        return SetScale(wanted)
    scale = choose_set_scale(pictures, found, np.arange(len(pictures)), shape, PictureSettings())
    on_event(Notice(f"{scale.notice} 8 bits of them are looked at.", important=True))
    return scale


def _place(name: str) -> list[tuple[int, int | str]]:
    """Where a name comes in order: digits as numbers, and before letters."""
    parts = (part for part in _NUMBERS.split(name) if part)
    return [(0, int(part)) if part.isascii() and part.isdigit() else (1, part) for part in parts]


@dataclass(frozen=True)
class _Reader:
    """Decode pictures of a folder by their place in the order."""

    pictures: Pictures
    order: NDArray[np.int64]
    shape: tuple[int, int, int]
    scale: SetScale
    depths: NDArray[np.uint8]

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        with quiet_decoders(), Decoders() as decoders:

            def image(number: int) -> NDArray[Any]:
                try:
                    content = self.pictures.read(number)
                    return decoded(decoders, content, self.shape, BACKGROUND, self.scale, int(self.depths[number]))[0]
                except (UnreadableError, OSError) as error:
                    raise DataError(f"{shown(self.pictures.names[number])} {error}.", "Remove or repair it.") from error

            return self.scale.scale.view_array(np.stack(list(in_parallel(image, self.order[rows].tolist()))))
