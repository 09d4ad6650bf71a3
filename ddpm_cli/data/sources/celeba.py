"""Load CelebA: 202,599 photographs of faces, aligned and cropped, 218x178 (Liu et al. 2015), through torchvision's class.

Its 40 attributes are no classes, so there is nothing to condition on. The training split trains; the other two are held out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings
from ddpm_cli.data.sources.folder import fingerprint, read_file
from ddpm_cli.data.sources.torchvision_sets import Published, obtain
from ddpm_cli.results.events import Listener, ignore

WHICH = Published(
    "celeba",
    "CelebA",
    1_400,
    "celeba/img_align_celeba/*.jpg (unpacked) and the five .txt files of CelebA in celeba/ beside them",
)


def load_celeba(root: Path | None, settings: PictureSettings, on_event: Listener = ignore) -> Dataset:
    """Load CelebA, decoded once into the cache. See `obtain` for where it is looked for; a download needs the package `gdown`.

    Raises:
        DataError: If the files are nowhere to be had, or damaged, or the settings do not fit.
    """
    (folder, names, count), source = obtain(_open, WHICH, root, on_event)
    pictures = Pictures(
        name=WHICH.name,
        source=source,
        names=names,
        labels=np.zeros(len(names), np.int64),
        class_names=(),
        held_out=np.arange(len(names)) >= count,
        fingerprint=fingerprint(folder, names),
        fingerprint_now=lambda: fingerprint(folder, names),
        read=lambda number: read_file(folder, names[number]),
    )
    return load_pictures(pictures, settings, on_event)


def _open(root: Path, download: bool) -> tuple[Path, list[str], int]:
    """The folder of the pictures, their names, and how many of these, the first ones, are to train on."""
    from torchvision.datasets import CelebA

    parts = [CelebA(root, split=split, target_type=[], download=download) for split in ("train", "valid", "test")]
    names = [name for part in parts for name in part.filename]
    return root / CelebA.base_folder / "img_align_celeba", names, len(parts[0].filename)
