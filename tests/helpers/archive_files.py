"""Archives of pictures for tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

SUFFIXES = ("zip", "tar", "tar.gz", "tar.zst", "parquet")
ARCHIVES = (*SUFFIXES, "zip of a folder", "tar of a folder")


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name relative to it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """A zip of files by name."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], *more: tarfile.TarInfo) -> Path:
    """A tar of files by name, packed as the path's suffix says, then of members without bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    content = buffer.getvalue()
    if path.suffix == ".zst":
        import zstandard

        content = zstandard.ZstdCompressor().compress(content)
    path.write_bytes(content)
    return path


def write_parquet(path: Path, files: Mapping[str, bytes]) -> Path:
    """A parquet file as the datasets library writes one of an imagefolder: base names, and classes by number."""
    import datasets

    classes = sorted({name.partition("/")[0] for name in files})
    columns = {
        "image": [{"bytes": content, "path": name.rpartition("/")[2]} for name, content in files.items()],
        "label": [classes.index(name.partition("/")[0]) for name in files],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return path


def pack(folder: Path, kind: str, scratch: Path) -> Path:
    """An archive of one of ARCHIVES of the pictures in class folders."""
    files = files_below(folder)
    if kind.endswith("of a folder"):
        kind = kind.partition(" ")[0]
        files = {f"{folder.name}/{name}": content for name, content in files.items()}
    path = scratch / f"packed.{kind}"
    if kind == "zip":
        return write_zip(path, files, zipfile.ZIP_DEFLATED)
    return write_parquet(path, files) if kind == "parquet" else write_tar(path, files)
