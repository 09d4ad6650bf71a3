"""Read a NIfTI file as slices, turned as radiologists look at them."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.volumes.recognise import opened
from ddpm_cli.data.volumes.volume import EXTRA, Range, Volume, plain_numbers, require_plausible

GZIP = b"\x1f\x8b"
AXIAL = 2
MOST_BEFORE = 1 << 24
"""Bytes of notes that may stand between the header and the values; they are passed over, as they may name a person."""


def read_nifti(path: Path, axis: int | None = None) -> Volume:
    """Read the slices of a volume, or of each volume of a time series, one after the other.

    The array is turned and flipped, not resampled, to the nearest of the body's axes. Then slices are shown as those of DICOM: the
    patient's right at the left, the front, or in upright planes the head, at the top, the front at the left of sagittal ones.
    A file that says nothing of orientation (sform_code and qform_code 0) is taken to go from left to right, back to front and
    foot to head, as method 1 of nifti1.h has it.

    Args:
        path: A file `.nii` or `.nii.gz`, of NIfTI-1 or NIfTI-2.
        axis: 0 makes sagittal slices, 1 coronal, 2 axial ones, which None means too.
    Returns:
        The volume. Values are scl_slope * stored + scl_inter, as float32; stored whole numbers stay such where neither is set.
    Raises:
        UnreadableError: If it is damaged, declares more than it holds, or is no array of real numbers or colours.
        RequestError: If nibabel is missing.
    """
    require_packages("A NIfTI file", EXTRA, "nibabel")
    with opened(path) as (file, size):
        packed = file.read(2) == GZIP
        file.seek(0)
        try:
            return _volume(cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file, size, packed, axis)
        except UnreadableError:
            raise
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError("is cut off or damaged where it is packed") from error
        except Exception as error:  # nibabel meets damage with errors of every kind
            raise UnreadableError(f"is damaged ({type(error).__name__})") from error


def _volume(file: BinaryIO, size: int, packed: bool, axis: int | None) -> Volume:
    header = _header(file.read(540))
    values = _values(file, header, size, packed)
    turned, oriented = _canonical(values, header)
    which = AXIAL if axis is None else axis
    flipped = np.flip(np.moveaxis(turned, which, 0), (1, 2))  # [slices, two axes of the body, times, channels]
    upright = np.moveaxis(flipped, (3, 0, 2, 1), (0, 1, 2, 3))
    stacked = upright.reshape(-1, *upright.shape[2:])
    pictures = stacked[..., 0] if stacked.shape[-1] == 1 else stacked
    said = _said(header)
    return Volume(list(pictures), frozenset({said} if said else ()), said is not None, oriented)


def _header(raw: bytes) -> Any:
    """The header, without the notes behind it; nibabel's own reader would read these too."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for order in "<>":
        (length,) = struct.unpack(f"{order}i", raw[:4].ljust(4, b"\0"))
        kind = {348: Nifti1Header, 540: Nifti2Header}.get(length)
        if kind is None or len(raw) < length:
            continue
        magic = raw[344:348] if length == 348 else raw[4:8]
        if magic[:3] in (b"ni1", b"ni2"):
            raise UnreadableError("is a header alone, whose values lie in an .img file; join the two to one .nii file")
        if magic[:3] in (b"n+1", b"n+2"):
            return kind(raw[:length], order, check=False)
    raise UnreadableError("is no NIfTI file")


def _values(file: BinaryIO, header: Any, size: int, packed: bool) -> NDArray[np.generic]:
    """All values, float32 where they are scaled, [X, Y, Z, times, channels]."""
    from nibabel.arrayproxy import ArrayProxy

    shape = tuple(int(side) for side in header.get_data_shape())
    if not shape or min(shape) < 1 or (len(shape) > 4 and max(shape[4:]) > 1):
        raise UnreadableError(f"has the shape {list(shape)}, not that of a volume or a series of volumes")
    require_plausible(math.prod(shape) * header.get_data_dtype().itemsize, size, packed=packed)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= MOST_BEFORE:
        raise UnreadableError(f"says that its values begin at byte {offset:g}")
    proxy = ArrayProxy(file, header, mmap=False)
    values = proxy.get_unscaled()
    whole = (*shape, 1, 1, 1)[:4]
    if values.dtype.names:
        channels = [name for name in ("R", "G", "B", "A") if name in values.dtype.names]
        return np.stack([np.asarray(values[name]) for name in channels], -1).reshape(*whole, len(channels))
    if (proxy.slope, proxy.inter) != (1.0, 0.0):
        values = values.astype(np.float32) * np.float32(proxy.slope) + np.float32(proxy.inter)
    return plain_numbers(values).reshape(*whole, 1)


def _canonical(values: NDArray[np.generic], header: Any) -> tuple[NDArray[np.generic], bool]:
    """The array with axes from left to right, back to front and foot to head, and whether the header says which they are.

    nibabel's best affine would flip an array of no said orientation from left to right, as programs before NIfTI stored it.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    with suppress(Exception):  # a transform that is none: then it says nothing
        if (affine := _affine(header)) is not None:
            orientation = io_orientation(affine)
            if np.isfinite(orientation).all():
                return apply_orientation(values, orientation), True
    return values, False


def _affine(header: Any) -> Any:
    """The transform that the header says, the one of nearer to a template's space first; None if it says none."""
    if int(header["sform_code"]) > 0:
        return header.get_sform()
    return header.get_qform() if int(header["qform_code"]) > 0 else None


def _said(header: Any) -> Range | None:
    """The values to be shown black and white (cal_min, cal_max of nifti1.h), if there are two."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None
