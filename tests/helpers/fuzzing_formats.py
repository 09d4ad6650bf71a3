"""Attacks on files of arrays that others have made; see fuzzing.py."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from fuzzing import Attack, mutated
from scipy.io import savemat

from ddpm_cli.data.sources.arrays import load_arrays
from ddpm_cli.data.sources.formats.reader import ArrayOptions

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 6, 6, 3), np.uint8)
LABELS = np.arange(9) % 3 + 1
EIGHT_BY_EIGHT = np.random.default_rng(0).integers(0, 256, (9, 192), np.uint8)
NOISE = np.random.default_rng(0).bytes(2 * 27_648)
"""Two images of STL-10."""


def format_attacks(scratch: Path) -> dict[str, Attack]:
    """As `fuzzing.attacks`."""
    folder = scratch / "formats"
    folder.mkdir()
    writers: dict[str, dict[str, Callable[[Path], object]]] = {
        "MATLAB files": {
            "packed.mat": lambda path: savemat(path, {"X": np.moveaxis(IMAGES, 0, -1), "y": LABELS[:, None]}, do_compression=True),
            "plain.mat": lambda path: savemat(path, {"images": np.moveaxis(IMAGES[..., 0], 0, -1), "labels": LABELS[:, None] - 1}),
            "four.mat": lambda path: savemat(path, {"images": IMAGES[:, :, 0].reshape(9, -1)[:, :16]}, format="4"),
        },
        "HDF5 files": {"plain.h5": _hdf5, "packed.h5": lambda path: _hdf5(path, compression="gzip", chunks=True)},
        "archives of others": {
            "medmnist.npz": _medmnist,
            "samples.npz": lambda path: np.savez_compressed(path, IMAGES, LABELS - 1),
            "train_data_batch_1.npz": lambda path: np.savez(path, data=EIGHT_BY_EIGHT, labels=LABELS),
        },
        "tables of pixels": {"plain.csv": lambda path: path.write_bytes(_table()), "packed.csv.gz": _packed_table},
        "raw pixels": {
            "train_X.bin": lambda path: path.write_bytes(np.random.default_rng(0).bytes(2 * 27_648)),
            "cat.npy": _drawings,
        },
    }
    return {what: _on_files(folder, files) for what, files in writers.items()}


def _on_files(folder: Path, writers: dict[str, Callable[[Path], object]]) -> Attack:
    good = {}
    for name, write in writers.items():
        write(folder / name)
        load_arrays(folder / name)
        good[folder / name] = (folder / name).read_bytes()

    def one(dice: random.Random) -> None:
        path = dice.choice(list(good))
        options = ArrayOptions() if dice.random() < 0.8 else ArrayOptions(images_key=dice.choice(("images", "X", "pictures")))
        try:
            path.write_bytes(mutated(good[path], dice))
            load_arrays(path, options)
        finally:
            path.unlink()  # not written over: what was mapped of it stays as it was
            path.write_bytes(good[path])

    return one


def _hdf5(path: Path, **packing: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=IMAGES, **packing)
        file.create_dataset("ans", data=LABELS - 1)
        file["group/pictures"], file["soft"] = IMAGES[..., 0], h5py.SoftLink("/images")


def _medmnist(path: Path) -> None:
    parts = {"train": slice(0, 4), "val": slice(4, 7), "test": slice(7, 9)}
    both = {"images": IMAGES, "labels": LABELS[:, None] - 1}
    np.savez_compressed(path, **{f"{name}_{what}": array[rows] for name, rows in parts.items() for what, array in both.items()})


def _table() -> bytes:
    header = ",".join(["label", *(f"pixel{number}" for number in range(36))])
    rows = [",".join(map(str, [label, *pixels])) for label, pixels in zip(LABELS - 1, IMAGES[..., 0].reshape(9, -1), strict=True)]
    return "\n".join([header, *rows, ""]).encode()


def _packed_table(path: Path) -> None:
    path.write_bytes(gzip.compress(_table(), mtime=0))


def _drawings(path: Path) -> None:
    np.save(path, np.random.default_rng(0).integers(0, 256, (4, 784), np.uint8))
