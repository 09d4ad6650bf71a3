"""Attacks on the readers of archives of pictures; see fuzzing.py."""

from __future__ import annotations

import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from archive_files import files_below, write_parquet, write_tar, write_zip
from fuzzing import ODD, Attack, dumped, mutated, mutated_file, mutated_tree
from picture_files import write_folder

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.archives.collection import open_archive
from ddpm_cli.data.pictures.settings import Pictures
from ddpm_cli.data.pictures.survey import survey
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.errors import DataError

KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"x", b"L")
NAMES = ("../x.png", "/etc/x.png", "a/../../x.png", "C:\\x.png", "a/x.png", "x\x1b[2J.png", "a" * 300 + ".png", ".x.png", "x.cls")


def archive_attacks(scratch: Path) -> dict[str, Attack]:
    """An attack on the reader of each kind of archive; what is in it by name, or all of its bytes, are changed."""
    files = files_below(write_folder(scratch / "archived", 6, ("a", "b")))
    return {
        "zip": _on_archive(scratch, "zip", files),
        "tar": _on_archive(scratch, "tar", files),
        "packed tar": _on_archive(scratch, "tar.gz", files),
        "parquet": _on_parquet(scratch, files),
        "tables": _on_tables(scratch, files),
    }


def _on_archive(scratch: Path, suffix: str, files: dict[str, bytes]) -> Attack:
    path, write = scratch / f"fuzzed.{suffix}", write_zip if suffix == "zip" else write_tar
    good = write(path, files).read_bytes()
    tree = {"labels": [[name, number % 2] for number, name in enumerate(files)]}

    def one(dice: random.Random) -> None:
        way = dice.random()
        if way < 0.5:
            path.write_bytes(mutated(good, dice))
        elif way < 0.8:
            write(path, files | {"dataset.json": dumped(mutated_tree(tree, dice))})
        elif suffix == "zip":
            odd = dice.choice(list(files.values()))[: dice.choice((0, 40, 999))]
            write_zip(path, files | {dice.choice(NAMES).replace("\x1b", "?"): odd})
        else:
            write_tar(path, files, *(_odd_member(dice) for _ in range(dice.choice((1, 3)))))
        _look_at(path, scratch)

    return one


def _odd_member(dice: random.Random) -> tarfile.TarInfo:
    member = tarfile.TarInfo(dice.choice(NAMES))
    member.type, member.linkname = dice.choice(KINDS), dice.choice(("/etc/passwd", "../..", "a/000.png"))
    member.size = dice.choice((0, 0, 600, 2**33, 2**60)) if member.type in (b"S", b"x", b"L") else 0
    return member


def _on_parquet(scratch: Path, files: dict[str, bytes]) -> Attack:
    import pyarrow
    import pyarrow.parquet

    path = scratch / "fuzzed.parquet"
    good = write_parquet(path, files).read_bytes()
    noted = json.loads(pyarrow.parquet.ParquetFile(path).schema_arrow.metadata[b"huggingface"])
    table = pyarrow.parquet.read_table(path)

    def one(dice: random.Random) -> None:
        if dice.random() < 0.6:
            path.write_bytes(mutated(good, dice))
        elif dice.random() < 0.5:
            pyarrow.parquet.write_table(table.replace_schema_metadata({b"huggingface": dumped(mutated_tree(noted, dice))}), path)
        else:
            odd = [value if isinstance(value, str) and "\ud800" not in value else None for value in dice.choices(ODD, k=6)]
            pyarrow.parquet.write_table(table.set_column(1, "label", [odd]), path)
        _look_at(path, scratch)

    return one


def _on_tables(scratch: Path, files: dict[str, bytes]) -> Attack:
    """Tables and marks in a folder and in a zip of it, which must say the same of them."""
    folder, archive = scratch / "tabled", scratch / "tabled.zip"
    rows = [{"file_name": name, "kind": "ab"[number % 2], "count": number} for number, name in enumerate(files)]
    table = "\n".join(",".join(map(str, row)) for row in (rows[0], *(row.values() for row in rows)))
    by_name: dict[str, bytes] = {
        "dataset.json": json.dumps({"labels": [[row["file_name"], row["count"]] for row in rows]}).encode(),
        "metadata.csv": table.encode(),
        "metadata.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        **{f"{name.rpartition('.')[0]}.cls": str(number % 2).encode() for number, name in enumerate(files)},
        **{f"{name.rpartition('.')[0]}.json": json.dumps(row).encode() for name, row in zip(files, rows, strict=True)},
    }
    groups = (
        ["dataset.json"],
        ["metadata.csv"],
        ["metadata.jsonl"],
        *([n for n in by_name if n.endswith(s)] for s in (".cls", "0.json")),
    )
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def one(dice: random.Random) -> None:
        tables = {name: by_name[name] for name in dice.choice(groups)}
        name = dice.choice(list(tables))
        tables[name] = mutated_file(name, tables[name], dice)
        column = dice.choice(("kind", "count")) if name not in ("dataset.json",) and not name.endswith(".cls") else None
        for table, content in tables.items():
            (folder / table).write_bytes(content)
        write_zip(archive, files | tables)
        try:
            with patch.dict(os.environ, DDPM_CACHE=str(scratch / "archives' cache")):
                outcomes = [_said(lambda: scan_folder(folder, with_tables=True, label_column=column), folder)]
                outcomes += [_said(lambda: open_archive(archive, label_column=column), archive)]
        finally:
            for table in tables:
                (folder / table).unlink()
        assert outcomes[0] == outcomes[1], outcomes
        if isinstance(outcomes[0], str):
            raise UnreadableError(outcomes[0])

    return one


def _said(find: Callable[[], Pictures], path: Path) -> object:
    """What was found, or why nothing was, in words that do not say how it is packed."""
    try:
        found = find()
    except DataError as error:
        return error.message.replace(str(path), "").replace("archive", "folder")
    return list(found.names), found.labels.tolist(), found.class_names


def _look_at(path: Path, scratch: Path) -> None:
    """Read all of it, and tell a picture that cannot be read as what it is."""
    with patch.dict(os.environ, DDPM_CACHE=str(scratch / "archives' cache")):
        found = survey(open_archive(path))
    for reason in found.broken.values():
        raise UnreadableError(reason)
