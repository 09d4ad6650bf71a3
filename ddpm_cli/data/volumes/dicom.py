"""Read the slices of a DICOM series, in the order in which they lie; nothing else that its files say of a person is kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.volumes.recognise import opened
from ddpm_cli.data.volumes.volume import EXTRA, Range, Slice, Volume, plain_numbers, require_plausible
from ddpm_cli.errors import RequestError

DEFLATED = "1.2.840.10008.1.2.1.99"
PLUG_INS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
RESCALE, WINDOW = "PixelValueTransformationSequence", "FrameVOILUTSequence"
"""Where files of several frames say for each what others say once (DICOM PS3.3, C.7.6.16)."""


@dataclass(frozen=True)
class Place:
    """Say where a file belongs; never shown, as the numbers of a series lead to a person.

    Attributes:
        series: What files of one series share; empty where a file does not say.
        along: Millimetres along the normal of its slices.
        number: InstanceNumber.
    """

    series: str
    along: float | None = None
    number: int | None = None


@contextmanager
def _faults_named() -> Iterator[None]:
    """Turn what pydicom raises of damage into an error of ours; of its own texts none is shown, as they quote what a file says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UnreadableError, RequestError):
            raise
        except Exception as error:  # pydicom meets damage with errors of every kind
            if isinstance(error, OSError) and error.errno:  # else one of Pillow's, which unpacks some kinds
                raise
            raise UnreadableError(f"is damaged ({type(error).__name__})") from None


def read_place(path: Path) -> Place | None:
    """Read which series a file belongs to and where in it; None of a file of DICOM that holds no picture.

    Raises:
        UnreadableError: If it is no DICOM file, or damaged.
        RequestError: If pydicom is missing.
    """
    require_packages("A DICOM file", EXTRA, "pydicom")
    with _faults_named():
        header = _read(path, pixels=False)
        if not header.get("Rows") or not header.get("Columns"):
            return None
        number = header.get("InstanceNumber")
        return Place(str(header.get("SeriesInstanceUID") or ""), _along(header), None if number is None else int(number))


def _read(path: Path, *, pixels: bool) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    with opened(path):
        pass  # it is an ordinary file
    try:
        if read_file_meta_info(str(path)).get("TransferSyntaxUID") == DEFLATED:
            raise UnreadableError("is deflated as a whole, which is not read; dcmconv +te IN OUT writes it plainly")
        return pydicom.dcmread(str(path), stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise UnreadableError("is no DICOM file") from None


def _along(header: Any) -> float | None:
    """Where a slice lies along the normal of its plane, in millimetres (DICOM PS3.3, C.7.6.2)."""
    with suppress(Exception):  # a position that is none
        directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        along = float(np.dot(np.cross(*directions), np.array(header.ImagePositionPatient, float)))
        return along if math.isfinite(along) else None
    return None


def in_order(files: Sequence[tuple[Path, Place]]) -> list[Path]:
    """Put the files of a series into the order of their slices: by position if all say it, else by number, else by name."""
    by_name = sorted(files, key=lambda item: item[0].name)
    for wanted in ("along", "number"):
        if all(getattr(place, wanted) is not None for _, place in files):
            return [path for path, _ in sorted(by_name, key=lambda item: getattr(item[1], wanted))]
    return [path for path, _ in by_name]


def read_dicom(path: Path) -> Volume:
    """Read the frames of one file.

    Values are RescaleSlope * stored + RescaleIntercept, or those of the file's table (Modality LUT), whole numbers where both are
    whole, else float32. Of a MONOCHROME1 file, whose small values are bright, stored values are turned over within their bits. The
    first window (DICOM PS3.3, C.11.2.1.2) says what is black and white, else fewer stored bits than there is room for.

    Returns:
        The frames as a volume.
    Raises:
        UnreadableError: If it is damaged, or compressed in a way that nothing installed unpacks.
        RequestError: If pydicom is missing.
    """
    require_packages("A DICOM file", EXTRA, "pydicom")
    with _faults_named():
        dataset = _read(path, pixels=True)
        frames = _frames(dataset, path.stat().st_size)
        if frames.shape[3:] or "ModalityLUTSequence" in dataset:
            return _as_it_is(dataset, frames)
        found = [_frame(dataset, number, frame) for number, frame in enumerate(frames)]
    said = [window for _, window in found if window]
    return Volume([values for values, _ in found], frozenset(said), len(said) == len(found))


def _frames(dataset: Any, size: int) -> NDArray[np.generic]:
    """What is stored, [frames, H, W] or, of colours, [frames, H, W, 3] as RGB."""
    count = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 8)
    syntax = dataset.file_meta.TransferSyntaxUID
    declared = int(dataset.Rows) * int(dataset.Columns) * count * samples * bits // 8
    if count < 1 or samples < 1:
        raise UnreadableError("declares no frames")
    require_plausible(declared, size, packed=bool(syntax.is_compressed))
    try:
        stored = dataset.pixel_array
    except RuntimeError as error:
        if syntax.is_compressed:
            raise UnreadableError(f"is packed as {_name(syntax)}, which is damaged or wants a plug-in: {PLUG_INS}") from error
        raise
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored, samples = apply_color_lut(stored, dataset), 3
    return np.asarray(stored).reshape(count, int(dataset.Rows), int(dataset.Columns), *([samples] if samples > 1 else []))


def _name(syntax: Any) -> str:
    """What the standard calls a transfer syntax; of one that it does not know, nothing that the file says is shown."""
    return str(syntax.name).split(",")[0] if syntax.is_transfer_syntax else "something unknown"


def _as_it_is(dataset: Any, frames: NDArray[np.generic]) -> Volume:
    """Colours, which have no window, and what goes through a table of the file, which pydicom applies."""
    if "ModalityLUTSequence" not in dataset:
        return Volume([plain_numbers(frame) for frame in frames])
    from pydicom.pixels import apply_modality_lut

    values = [plain_numbers(apply_modality_lut(frame, dataset)) for frame in frames]
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        top = 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        return Volume([plain_numbers(top - frame.astype(np.int64)) for frame in values])
    window = _window(dataset, 0)
    return Volume(values, frozenset({window} if window else ()), window is not None)


def _frame(dataset: Any, number: int, stored: Slice) -> tuple[Slice, Range | None]:
    """One grey frame as the values that it stands for, and which of them are black and white, if the file says so."""
    slope = float(_said(dataset, number, RESCALE, "RescaleSlope", 1))
    intercept = float(_said(dataset, number, RESCALE, "RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
        raise UnreadableError("is rescaled by what is no number, or by 0")
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    black, white = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    window = _window(dataset, number)
    if window is None and bits < int(dataset.BitsAllocated) and stored.dtype.kind in "iu":
        window = tuple(sorted((slope * black + intercept, slope * white + intercept)))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        total = black + white
        stored = total - stored.astype(np.float32 if stored.dtype.kind == "f" else np.int64)
        mirror = slope * total + 2 * intercept
        window = window and (mirror - window[1], mirror - window[0])
    return plain_numbers(_rescaled(stored, slope, intercept)), window


def _rescaled(stored: Slice, slope: float, intercept: float) -> Slice:
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        return np.asarray(stored.astype(np.int64) * int(slope) + int(intercept))
    return np.asarray(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept))


def _window(dataset: Any, number: int) -> Range | None:
    """The values that a linear window, the first of several, shows black and white (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    centre, width = (_first(_said(dataset, number, WINDOW, f"Window{name}", None)) for name in ("Center", "Width"))
    if centre is None or width is None or not math.isfinite(centre) or not math.isfinite(width):
        return None
    function = _said(dataset, number, WINDOW, "VOILUTFunction", "LINEAR")
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 and function in ("LINEAR", "LINEAR_EXACT") else None


def _first(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value):
        return None
    return float(value if isinstance(value, float | int) else value[0])


def _said(dataset: Any, number: int, group: str, keyword: str, usual: Any) -> Any:
    """What a file says of one of its frames: for this one, for all of them, or as files of one frame do."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for item in (*frames[number : number + 1], *shared[:1]):
        for values in (item.get(group) or [])[:1]:
            if values.get(keyword) is not None:
                return values.get(keyword)
    value = dataset.get(keyword)
    return usual if value is None else value
