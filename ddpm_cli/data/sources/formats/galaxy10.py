"""Read Galaxy10: HDF5 with images [N, H, W, 3] and the classes `ans` (astroNN's documentation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArraySet
    from ddpm_cli.data.sources.containers.found import Found


def _recognises(found: Found) -> bool:
    return {"images", "ans"} <= set(found.arrays) and found.shape("images")[3:] == (3,)


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    train = part(found.read("images"), labels_of(found, "ans", options), "images", "ans")
    return array_set(found.path, "Galaxy10: images, and ans as classes", train, layout="NHWC")


GALAXY10 = Reader(
    title="Galaxy10",
    about="Read Galaxy10's HDF5 file with images and ans.",
    recognises=_recognises,
    read=_read,
)
