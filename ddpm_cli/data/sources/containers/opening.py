"""Open whatever a file of arrays is: NumPy's, MATLAB's or HDF5. Pickles are never opened."""

from __future__ import annotations

from pathlib import Path

from ddpm_cli.core.io.files import printable
from ddpm_cli.data.sources.containers import hdf5, numpy_files
from ddpm_cli.data.sources.containers.found import Found, guarded
from ddpm_cli.data.sources.containers.matlab import open_mat
from ddpm_cli.errors import DataError

PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
START, SHOWN = 128, 16
OTHERS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS, which stands for the file (git lfs pull fetches that)"),
    (b"<", "it is a web page, such as a server sends instead of a file"),
    (b"\x0e\x03\x13\x01", "it is HDF4, the format before"),
    (b"\x1f\x8b", "it is packed by gzip"),
    (b"cdf", "it is NetCDF of version 3"),
)
"""What lies under the name of an HDF5 file that is none, by how it begins, in small letters."""


def look_into(path: Path) -> Found:
    """Look into a file by what it begins with; a folder, a table and raw bytes have no keys.

    Raises:
        DataError: If it is missing, damaged, or none that is read.
    """
    if path.is_dir():
        return Found(path, {})
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Name a file of arrays, such as an .npz or .npy file.")
    start = guarded(path, lambda: _start_of(path))
    if start.startswith(PICKLES):
        raise DataError(
            f"{path} is a Python pickle, which may run any program when it is opened; ddpm opens none.",
            "Fetch the set as .npz, or write it so: numpy.savez('NEW.npz', data=..., labels=...).",
        )
    if start.startswith(numpy_files.ZIP_MAGIC):
        return numpy_files.open_npz(path)
    if start.startswith(numpy_files.NPY_MAGIC):
        return numpy_files.open_npy(path)
    if start.startswith((hdf5.MAGIC, hdf5.MATLAB_MAGIC)):
        return hdf5.open_hdf5(path, matlab=start.startswith(hdf5.MATLAB_MAGIC))
    if path.suffix.lower() in hdf5.SUFFIXES:
        return _open_later(path, start)
    if path.suffix.lower() == ".mat":
        return open_mat(path)
    if path.name.lower().endswith((".csv", ".csv.gz", ".bin")):
        return Found(path, {})
    raise DataError(f"{path} cannot be read: it is neither an .npz nor an .npy file.", "Write it with numpy.savez or numpy.save.")


def _open_later(path: Path, start: bytes) -> Found:
    """Look into an HDF5 file that does not begin as one.

    Raises:
        DataError: If it is none, saying what it is.
    """
    if guarded(path, lambda: hdf5.begins_later(path)):
        return hdf5.open_hdf5(path)
    shown = printable(start[:SHOWN].decode("utf-8", "replace"))
    what = next((what for mark, what in OTHERS if start.lstrip().lower().startswith(mark)), f'it begins with "{shown}"')
    raise DataError(
        f"{path} is named as HDF5 and is no such file: {what if start else 'it is empty'}.",
        "Fetch it anew from where it is whole; arrays of another kind can be written by numpy.savez('NEW.npz', images=...).",
    )


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START)
