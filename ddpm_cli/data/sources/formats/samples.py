"""Read samples as guided-diffusion writes them: `.npz` with `arr_0`, and `arr_1` where there are classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArraySet
    from ddpm_cli.data.sources.containers.found import Found

KEY, LABEL_KEY = "arr_0", "arr_1"


def _recognises(found: Found) -> bool:
    return KEY in found.arrays and set(found.arrays) <= {KEY, LABEL_KEY} and len(found.shape(KEY)) in (3, 4)


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    labels = labels_of(found, LABEL_KEY, options)
    said = f"an array without a name ({KEY}), as guided-diffusion's samples, {'with' if labels is not None else 'without'} labels"
    return array_set(found.path, said, part(found.read(KEY), labels, KEY, LABEL_KEY), layout=options.layout)


SAMPLES = Reader(
    title="guided-diffusion's samples",
    about="Read .npz with arr_0 and perhaps labels in arr_1, as guided-diffusion writes samples.",
    recognises=_recognises,
    read=_read,
)
