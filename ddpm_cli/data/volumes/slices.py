"""Make a data set of the slices of scans, in which no scan is on both sides of the held-out split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data import ranges as data_ranges
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.pictures.layout import cut_at
from ddpm_cli.data.pictures.resizing import fitted
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.data.sources.array_sets import AnyLayout, ArrayPart, ArraySet, dataset_of
from ddpm_cli.data.volumes.dicom import read_dicom
from ddpm_cli.data.volumes.finding import Scan, Scans, find_scans, reason_of
from ddpm_cli.data.volumes.nifti import read_nifti
from ddpm_cli.data.volumes.tiff import read_tiff
from ddpm_cli.data.volumes.volume import Range, Slice, Volume
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import DataProgress, Listener, ignore

MEMORY_SHARE = 3
"""The slices may take one part in so many of the memory that is free: they are in it twice while they are put together."""


@dataclass(frozen=True)
class SliceSettings:
    """Say what becomes of scans.

    Attributes:
        size: Height and width of the slices; None if all have the same already.
        axis: Along which volumes are cut: of NIfTI see `read_nifti`; of stacks 0 is the way through the pages, 1 down, 2 across
            them. None cuts NIfTI into axial slices and leaves pages as they are.
        skip_empty: Leave out slices of one value.
        held_out: Share of the scans that is held out, in [0, 1), where folders do not say which.
        strict: Refuse scans of which some cannot be read, instead of leaving these out.
    """

    size: tuple[int, int] | None = None
    axis: int | None = None
    skip_empty: bool = True
    held_out: float = 0.1
    strict: bool = False


@dataclass(frozen=True, eq=False)
class _Cut:
    """Hold one scan as it will be used: slices [n, H, W] or [n, H, W, C], and a sum of what they were before they were resized."""

    scan: Scan
    slices: NDArray[np.generic]
    content: int


@dataclass
class _Found:
    """Hold what is known of the scans so far."""

    cuts: list[_Cut] = field(default_factory=list)
    ranges: set[Range] = field(default_factory=set)
    silent: int = 0
    empty: int = 0
    enlarged: int = 0
    unoriented: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def load_slices(
    path: Path, settings: SliceSettings, on_event: Listener = ignore, *, value_range: data_ranges.Range = "auto"
) -> Dataset:
    """Load the slices of scans as a data set; see `read_slices` and `dataset_of`."""
    found, unreadable = read_slices(path, settings, on_event)
    dataset = dataset_of(found, 0.0, value_range=value_range)
    what = "folder" if path.is_dir() else "file"
    return replace(dataset, source=f"the slices of the scans in the {what} {path}", unreadable=tuple(unreadable))


def read_slices(path: Path, settings: SliceSettings, on_event: Listener = ignore) -> tuple[ArraySet, dict[str, str]]:
    """Read the slices of a scan, or of all scans in a folder.

    Neighbouring slices are nearly the same, so that whole scans are held out, chosen by a sum of their content, equal ones alike.
    Of a single scan its last slices are. Another scan of the same person may be on the other side: no file is asked who it shows.

    Args:
        path: A file or a folder.
        settings: What becomes of them.
        on_event: Told of the progress.
    Returns:
        Slices as whole numbers or float32 [N, H, W] or [N, H, W, C], and why each file that is left out cannot be read.
    Raises:
        DataError: If nothing can be read, slices do not fit together or into memory, or none is left on one side.
        RequestError: If a package of the extra `medical` is missing.
    """
    scans = find_scans(path, lambda done, total: on_event(DataProgress(done, total, "looking through scans")))
    found = _Found(unreadable=dict(scans.unreadable))
    _cut_all(scans.scans, settings, found, on_event)
    _require_readable(found, path, settings)
    train, test, split_notices = _split(scans, found.cuts, settings.held_out, path)
    said, kind = _said(found), _type([cut.slices for cut in found.cuts])
    notices = (*scans.notices, *_notices(found, path), *split_notices, *_range_notices(found, said, path))
    name = path.name.removesuffix(".gz").rpartition(".")[0] if path.is_file() else path.name
    layout: AnyLayout = "NHWC" if found.cuts[0].slices.ndim == 4 else "auto"
    return (
        ArraySet(
            name or "slices",
            str(path),
            _part(train, kind, scans.class_names),
            _part(test, kind, scans.class_names) if test else None,
            layout,
            scans.class_names,
            notices,
            said_range=said,
        ),
        found.unreadable,
    )


# --------------------------------------------------------------------------------------------------------------- reading


def _cut_all(scans: Sequence[Scan], settings: SliceSettings, found: _Found, on_event: Listener) -> None:
    room = psutil.virtual_memory().available // MEMORY_SHARE
    for number, scan in enumerate(scans, 1):
        _cut(scan, settings, found)
        if found.cuts:
            _require_fitting(found.cuts[0], found.cuts[-1])
        if sum(cut.slices.nbytes for cut in found.cuts) > room:
            raise DataError(
                f"The slices of the first {number:,} of {len(scans):,} scans take more than {room / 1e9:.1f} GB, a third of the "
                "memory that is free.",
                "Choose a smaller --size, or give fewer scans.",
            )
        on_event(DataProgress(number, len(scans), "reading scans"))


def _cut(scan: Scan, settings: SliceSettings, found: _Found) -> None:
    """Read one scan and keep its slices as they will be used."""
    volume = _read(scan, settings, found)
    slices = _along_axis(volume.slices, settings.axis, scan) if scan.format != "NIfTI" else volume.slices
    if not slices:
        return
    kept = [values for values in slices if not settings.skip_empty or (values != values.flat[0]).any()]
    found.empty += len(slices) - len(kept)
    found.ranges |= volume.ranges
    found.silent += not volume.says_all
    if not volume.oriented:
        found.unoriented.append(scan.name)
    if settings.size is not None:
        found.enlarged += sum(values.shape[0] < settings.size[0] or values.shape[1] < settings.size[1] for values in kept)
    if kept:
        found.cuts.append(_Cut(scan, _stacked(kept, settings.size, scan), _content_sum(kept)))


def _read(scan: Scan, settings: SliceSettings, found: _Found) -> Volume:
    """The slices of one scan, of whose files those that cannot be read are left out."""
    slices: list[Slice] = []
    ranges: set[Range] = set()
    says_all = oriented = True
    for file in scan.files:
        try:
            part = _read_file(scan, file, settings)
        except (UnreadableError, OSError) as error:
            name = scan.name if len(scan.files) == 1 else Path(scan.name).with_name(printable(file.name)).as_posix()
            found.unreadable[name] = reason_of(error)
            continue
        slices += part.slices
        ranges |= part.ranges
        says_all, oriented = says_all and part.says_all, oriented and part.oriented
    return Volume(slices, frozenset(ranges), says_all, oriented)


def _read_file(scan: Scan, file: Path, settings: SliceSettings) -> Volume:
    if scan.format == "NIfTI":
        return read_nifti(file, settings.axis)
    return read_dicom(file) if scan.format == "DICOM" else read_tiff(file)


def _along_axis(slices: list[Slice], axis: int | None, scan: Scan) -> list[Slice]:
    """The slices of a stack along another of its axes."""
    if not axis or not slices:
        return slices
    _require_one_shape(slices, scan)
    return list(np.moveaxis(np.stack(slices), axis, 0))


def _stacked(slices: list[Slice], size: tuple[int, int] | None, scan: Scan) -> NDArray[np.generic]:
    if size is not None:
        slices = [_resized(values, size) for values in slices]
    else:
        _require_one_shape(slices, scan)
    return np.stack(slices)


def _resized(values: Slice, size: tuple[int, int]) -> Slice:
    """A slice of another size, filtered in float32; what the filter overshoots is cut off at the slice's own ends."""
    if values.shape[:2] == size:
        return values
    planes = values.astype(np.float32).reshape(*values.shape[:2], -1)
    fit = np.stack([np.asarray(fitted(Image.fromarray(plane), *size)) for plane in np.moveaxis(planes, -1, 0)], -1)
    fit = fit.reshape(*size, *values.shape[2:])
    if values.dtype.kind in "iu":
        fit = np.rint(fit)
    return fit.clip(values.min(), values.max()).astype(values.dtype)


def _content_sum(slices: list[Slice]) -> int:
    """The first 64 bits of a SHA-256 of the slices, random, and equal for equal scans."""
    digest = hashlib.sha256()
    for values in slices:
        digest.update(f"{values.shape} {values.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(values).data)
    return int.from_bytes(digest.digest()[:8], "big")


# --------------------------------------------------------------------------------------------------------------- refusing


def _require_one_shape(slices: list[Slice], scan: Scan) -> None:
    shapes = {values.shape[:2]: None for values in slices}
    if len(shapes) > 1:
        raise _differing([f"{height}x{width}" for height, width in shapes], shown(scan.name), min(min(shape) for shape in shapes))
    if len({values.ndim for values in slices}) > 1 or len({values.shape for values in slices}) > 1:
        raise DataError(f"The slices of {shown(scan.name)} differ in their channels.", "Leave the scan out, or split it.")


def _differing(sizes: list[str], where: str, smallest: int) -> DataError:
    return DataError(
        f"The slices of {where} have differing sizes, height x width: {first_few(sizes)}.",
        f"Say what size to bring them to: --size {smallest} (or another HxW).",
    )


def _require_fitting(first: _Cut, last: _Cut) -> None:
    """Refuse slices of two scans that make no one array."""
    one, other = first.slices.shape[1:], last.slices.shape[1:]
    if one[:2] != other[:2]:
        sizes = [f"{shape[0]}x{shape[1]} ({shown(cut.scan.name)})" for cut, shape in ((first, one), (last, other))]
        raise _differing(sizes, "the scans", min(*one[:2], *other[:2]))
    if one != other:
        counts = [f"{shape[2] if len(shape) > 2 else 1} ({shown(cut.scan.name)})" for cut, shape in ((first, one), (last, other))]
        raise DataError(
            f"The slices of the scans differ in their channels: {', '.join(counts)}.", "Leave one of the two kinds out."
        )


def _require_readable(found: _Found, path: Path, settings: SliceSettings) -> None:
    listed = [f"{shown(name)} {reason}" for name, reason in found.unreadable.items()]
    if listed and (settings.strict or not found.cuts):
        few = "; ".join(listed) if settings.strict else first_few(listed, 3)
        remedy = (
            "Replace or remove them, or leave out --strict (data.strict), and they are skipped." if found.cuts else "Check them."
        )
        raise DataError(f"{counted(len(listed), 'scan file')} in {path} cannot be read: {few}.", remedy)
    if not found.cuts:
        remedy = "Name another one, or keep such slices with --set data.skip_empty=false."
        raise DataError(f"All {counted(found.empty, 'slice')} in {path} are of one value each.", remedy)


# -------------------------------------------------------------------------------------------------------------- splitting


def _split(scans: Scans, cuts: list[_Cut], share: float, path: Path) -> tuple[list[_Cut], list[_Cut], list[str]]:
    """What is trained on, what is held out, and what to say of that."""
    if scans.has_split:
        sides = [[cut for cut in cuts if cut.scan.held_out == held_out] for held_out in (False, True)]
        if not sides[0] or not sides[1]:
            raise DataError(f"A side of the split in {path} has no scans that can be used.", "Add some to that side.")
        return sides[0], sides[1], []
    if share == 0:
        return cuts, [], []
    if len(cuts) == 1:
        return _split_one(cuts[0], share, path)
    order = sorted(range(len(cuts)), key=lambda number: cuts[number].content)
    sums = np.array([cuts[number].content for number in order], np.uint64)
    cut = cut_at(sums, share, f"{path}, of whole scans")
    held_out = [cuts[number] for number in sorted(order[:cut])]
    train = [cuts[number] for number in sorted(order[cut:])]
    count = sum(len(each.slices) for each in held_out)
    return (
        train,
        held_out,
        [f"Held out {counted(len(held_out), 'scan')} of {len(cuts):,}, {counted(count, 'slice')}."],
    )


def _split_one(cut: _Cut, share: float, path: Path) -> tuple[list[_Cut], list[_Cut], list[str]]:
    count = len(cut.slices)
    if count < 2:
        raise DataError(
            f"There is only one slice in {path}, so none can be held out.",
            "Add others, or train without held-out images: --set data.held_out=0",
        )
    kept = max(1, count - max(1, math.floor(share * count + 0.5)))
    sides = [replace(cut, slices=cut.slices[:kept]), replace(cut, slices=cut.slices[kept:])]
    return (
        sides[:1],
        sides[1:],
        [
            f"There is only one scan in {path}, so that its last {counted(count - kept, 'slice')} of {count:,} are held out: they "
            "lie beside those trained on, and what is measured on them flatters the model."
        ],
    )


def _type(arrays: list[NDArray[np.generic]]) -> np.dtype[np.generic]:
    """The type that holds all values: whole numbers of up to 32 bits, or float32."""
    common = np.result_type(*{array.dtype for array in arrays})
    return np.dtype(np.float32) if common.kind == "f" or common.itemsize > 4 else common


def _part(cuts: list[_Cut], kind: np.dtype[np.generic], class_names: tuple[str, ...]) -> ArrayPart:
    images = np.concatenate([cut.slices for cut in cuts], dtype=kind, casting="unsafe")
    labels = np.repeat([cut.scan.label for cut in cuts], [len(cut.slices) for cut in cuts]) if class_names else None
    return ArrayPart(images, labels, "slices", "classes")


# ---------------------------------------------------------------------------------------------------------------- telling


def _said(found: _Found) -> Range | None:
    """The least and the most that any file says is black and white, if all say something."""
    if found.silent or not found.ranges:
        return None
    return min(low for low, _ in found.ranges), max(high for _, high in found.ranges)


def _range_notices(found: _Found, said: Range | None, path: Path) -> Iterator[str]:
    if said and len(found.ranges) > 1:
        yield (
            f"The scans in {path} name {len(found.ranges):,} windows from black to white; the range from {said[0]:g} to "
            f"{said[1]:g} holds all of them."
        )
    if found.ranges and not said:
        yield f"Only some of the scans in {path} say which values are black and white, so that what they say is not used."


def _notices(found: _Found, path: Path) -> Iterator[str]:
    if found.unreadable:
        listed = [f"{shown(name)} ({reason})" for name, reason in found.unreadable.items()]
        yield f"Left out {counted(len(listed), 'scan file')} in {path} that cannot be read: {first_few(listed)}."
    if found.empty:
        yield f"Left out {counted(found.empty, 'slice')} of one value each (data.skip_empty)."
    if found.enlarged:
        yield f"Enlarged {counted(found.enlarged, 'slice')} smaller than the size asked for, which adds no detail."
    if found.unoriented:
        yield (
            f"{counted(len(found.unoriented), 'scan says', 'scans say')} nothing of orientation and may be mirrored: "
            f"{first_few([shown(name) for name in found.unoriented])}."
        )
