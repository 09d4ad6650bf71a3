"""Find the files that a name stands for: one, a pattern such as `shard-{000000..000010}.tar`, or a folder of numbered shards."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.archives.tars import SUFFIXES as TAR_SUFFIXES
from ddpm_cli.data.pictures.settings import shown
from ddpm_cli.errors import DataError

MOST_SHARDS = 100_000
_NUMBER = re.compile(r"\d+")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


def shards(path: Path) -> list[Path]:
    """List the archives that a path stands for.

    Raises:
        DataError: If there are none, or some of a pattern are missing.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path / name for name in os.listdir(path) if name.lower().endswith(TAR_SUFFIXES))
        if not found:
            raise DataError(f"There are no .tar files in the folder {path}.", "Name a folder of shards, or one archive.")
        _require_one_series(path, [one.name for one in found])
        return found
    if not _RANGE.search(path.name):
        raise DataError(
            f"There is no file {path}.",
            "Name a .zip, .tar, .tar.gz, .tar.zst or .parquet file; one that a run was trained on must be put back.",
        )
    found = [path.with_name(name) for name in _expanded(path.name)]
    if missing := [shown(str(one)) for one in found if not one.is_file()]:
        raise DataError(
            f"{counted(len(missing), 'shard')} of {len(found):,} in {path} {'is' if len(missing) == 1 else 'are'} missing: "
            f"{first_few(missing)}.",
            "Correct the numbers, or bring the shards here.",
        )
    return found


def _require_one_series(path: Path, names: list[str]) -> None:
    """Refuse a folder of several series of shards, such as those of training and of validation, whose names are no folders."""
    series = {_NUMBER.sub("#", name): name for name in names}
    if len(series) > 1:
        raise DataError(
            f"The folder {path} holds {len(series):,} series of shards: {first_few([shown(name) for name in series.values()])}.",
            "Name those to train on by a pattern, such as --data 'FOLDER/train-{000..010}.tar'.",
        )


def _expanded(name: str) -> list[str]:
    """Every name that a pattern stands for, as a shell expands it: with as many digits as its ends have."""
    names = [name]
    while match := _RANGE.search(names[0]):
        low, high = int(match[1]), int(match[2])
        if high < low or (high - low + 1) * len(names) > MOST_SHARDS:
            raise DataError(f"{name} stands for no shards, or for more than {MOST_SHARDS:,}.", "Write {FIRST..LAST}.")
        width = max(len(match[1]), len(match[2])) if "0" in (match[1][0], match[2][0]) else 0
        names = [_RANGE.sub(f"{number:0{width}}", one, count=1) for one in names for number in range(low, high + 1)]
    return names
