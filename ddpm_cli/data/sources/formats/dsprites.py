"""Read dSprites: `.npz` with imgs of 0 and 1, [737280, 64, 64], and latents_classes (Matthey et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArraySet
    from ddpm_cli.data.sources.containers.found import Found

KEY, LABEL_KEY = "imgs", "latents_classes"
FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")


def _recognises(found: Found) -> bool:
    return {KEY, LABEL_KEY} <= set(found.arrays) and len(found.shape(KEY)) == 3


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    labels = None
    if options.with_labels:
        latents = found.read(LABEL_KEY)
        if latents.ndim != 2 or latents.shape[1] != len(FACTORS):
            raise DataError(
                f"{found.path} is recognised as dSprites, but {LABEL_KEY} are {found.arrays[LABEL_KEY]}, not a column for each of "
                f"{', '.join(FACTORS)}.",
                "Fetch it anew.",
            )
        labels = latents[:, FACTORS.index("shape")]
    said = f"dSprites: values 0 and 1, {'the shape is the class' if options.with_labels else 'without classes'}"
    return array_set(found.path, said, part(found.read(KEY), labels, KEY, LABEL_KEY), class_names=SHAPES, said_range=(0, 1))


DSPRITES = Reader(
    title="dSprites",
    about="Read dSprites' .npz with imgs of 0 and 1; the shape is the class.",
    recognises=_recognises,
    read=_read,
)
