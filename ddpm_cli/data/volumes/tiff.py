"""Read the pages of a TIFF file as slices, of one to sixteen channels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.volumes.recognise import opened, page_offsets
from ddpm_cli.data.volumes.volume import EXTRA, MOST_CHANNELS, Range, Slice, Volume, plain_numbers, require_plausible

# Without a handler Python itself would write its complaints to stderr; the error that follows says it all.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

READ = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE")
LEAST, MOST = ("MinSampleValue", "SMinSampleValue"), ("MaxSampleValue", "SMaxSampleValue")
NO_COMPRESSION = 1


def read_tiff(path: Path) -> Volume:
    """Read the pages; smaller copies of others and masks are left out.

    Channels may be interleaved or in planes. Channels that ImageJ or OME keep as pages become channels of one slice, up to
    sixteen. Of files in which 0 is white, values are turned over; palettes become colours.

    Returns:
        The pages as a volume. MinSampleValue and MaxSampleValue, or fewer bits than there is room for, say what is black and white.
    Raises:
        UnreadableError: If it is cut off or damaged, declares more than it holds, or is compressed in a way that nothing
            installed unpacks.
        RequestError: If tifffile is missing.
    """
    require_packages("A TIFF stack", EXTRA, "tifffile")
    import tifffile

    with opened(path) as (file, size):
        for _ in page_offsets(file, size):
            pass  # a chain that is broken raises, where tifffile would only read fewer pages
        file.seek(0)
        try:
            with tifffile.TiffFile(
                file, name=path.name, _multifile=False
            ) as found:  # of OME, the other files that it names stay closed
                return _volume(found, size)
        except UnreadableError:
            raise
        except Exception as error:  # tifffile meets damage with errors of every kind
            reason = str(error)
            if "imagecodecs" in reason:
                raise UnreadableError("is compressed in a way that wants a further package: pip install imagecodecs") from error
            raise UnreadableError(f"is damaged ({type(error).__name__})") from error


def _volume(found: Any, size: int) -> Volume:
    parts = [part for part in found.series if not part.keyframe.is_reduced and not part.keyframe.is_mask]
    packed = any(part.keyframe.compression != NO_COMPRESSION for part in parts)
    require_plausible(sum(int(part.nbytes) for part in parts), size, packed=packed)
    slices: list[Slice] = []
    ranges = set[Range | None]()
    for part in parts:
        values, said = _seen(part.asarray(maxworkers=1), part.keyframe)
        slices += _slices(values, part.axes if values.ndim == len(part.axes) else f"{part.axes}S")
        ranges.add(said)
    if not slices:
        raise UnreadableError("holds no pages that are pictures")
    return Volume(slices, frozenset(said for said in ranges if said), None not in ranges)


def _seen(values: NDArray[np.generic], page: Any) -> tuple[NDArray[np.generic], Range | None]:
    """What the values of some pages look like, and which of them are black and white, if the file says so."""
    kind = page.photometric.name
    if kind not in READ:
        raise UnreadableError(f"has colours of the kind {kind}, not grey, a palette or RGB")
    bits = page.bitspersample
    if not isinstance(bits, int):
        raise UnreadableError("has channels of differing depth")
    if kind == "PALETTE":
        return np.moveaxis((page.colormap >> 8).astype(np.uint8)[:, values], 0, -1), None  # of 16 bits, eight are the palette's
    whole = values.dtype.kind == "u" or values.dtype == np.bool_
    said = _range(page) or ((0.0, 2.0**bits - 1) if whole and bits < 8 * values.dtype.itemsize else None)
    if kind == "MINISWHITE" and whole:
        top = 2**bits - 1
        values = (top - values.astype(np.int64)).astype(np.uint8 if bits <= 8 else values.dtype)
        said = said and (top - said[1], top - said[0])
    return plain_numbers(values), said


def _range(page: Any) -> Range | None:
    """The values that are black and white (TIFF 6.0, Sections 8 and 18), of several channels the least and the most."""
    ends = []
    for names, end in ((LEAST, min), (MOST, max)):
        values = [page.tags[name].value for name in names if name in page.tags]
        ends.append(float(end(np.atleast_1d(values[0]))) if values else None)
    low, high = 0.0 if ends[0] is None else ends[0], ends[1]
    return (low, high) if high is not None and np.isfinite([low, high]).all() and low < high else None


def _slices(values: NDArray[np.generic], axes: str) -> list[Slice]:
    """Pages from an array whose axes have the letters that tifffile gives them: Y, X, and S or C for channels."""
    if "Y" not in axes or "X" not in axes:
        raise UnreadableError(f"has no pictures, but an array of the axes {axes}")
    channel = axes.find("S") if "S" in axes else axes.find("C")
    is_channel = channel >= 0 and values.shape[channel] <= MOST_CHANNELS
    if "S" in axes and not is_channel:
        raise UnreadableError(f"has {values.shape[channel]} channels, more than {MOST_CHANNELS}")
    last = [axes.index("Y"), axes.index("X"), *([channel] if is_channel else [])]
    ordered = values.transpose([place for place in range(values.ndim) if place not in last] + last)
    pages = ordered.reshape(-1, *ordered.shape[-len(last) :])
    return list(pages[..., 0] if is_channel and pages.shape[-1] == 1 else pages)
