"""Log to metrics.jsonl, one line per logging interval; incidents.jsonl, one per incident; metrics.json, the history by epoch."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from ddpm_cli.core.io.files import (
    atomic_write,
    input_errors,
    open_descriptor,
    open_regular,
    output_errors,
    replacing,
    sync_path,
    to_json,
    write_all,
)
from ddpm_cli.errors import RunError
from ddpm_cli.results.events import IncidentKind
from ddpm_cli.runs.checkpoint_state import LARGEST_COUNT

Row = Mapping[str, float | int | str | Sequence[int] | None]
_LINE_LIMIT = 1_000_000
NO_LONGER_PAYS = "no_longer_pays"
"""Stands in the last row of a run that `train.patience` stopped."""


class MetricsLog:
    """Append rows to a file of JSON lines.

    A row is written at once and whole: a kill can only tear the last line, which readers pass over, the next row does not continue,
    and `truncate_after` drops.

    Args:
        path: The file; created with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._name_is_synced = False

    def append(self, row: Row) -> None:
        """Add a row.

        Raises:
            OutputError: If it cannot be written; the lines before it stay whole.
        """
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        with output_errors(self.path):
            descriptor = self._open()
            end = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, "written in part")

    def sync(self) -> None:
        """Wait until all rows are on the disk; called before a checkpoint, whose step the rows must reach.

        Raises:
            OutputError: If the disk reports an error.
        """
        with output_errors(self.path):
            os.fsync(self._open())
            if not self._name_is_synced:
                sync_path(self.path.parent)
                self._name_is_synced = True

    def truncate_after(self, step: int) -> None:
        """Drop what was logged after `step` and any torn line, so that a resumed run neither repeats nor continues one.

        Args:
            step: The step that training resumes from.
        Raises:
            OutputError: If the file cannot be rewritten; it then stays as it was.
            RunError: If it is no ordinary file.
        """
        self.close()
        if not os.path.lexists(self.path):
            return
        with replacing(self.path) as temporary, open(temporary, "xb") as kept:
            kept.writelines(line for line, row in _whole_lines(self.path) if row["step"] <= step)

    def close(self) -> None:
        """Close the file; the next row opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = open_descriptor(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            if _ends_in_a_torn_line(self.path):
                write_all(self._descriptor, b"\n")
        return self._descriptor


def _ends_in_a_torn_line(path: Path) -> bool:
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all whole rows in the order of writing; none if there is no file.

    Raises:
        RunError: If it is no ordinary file or cannot be read.
    """
    return list(each_row(path))


def each_row(path: Path) -> Iterator[dict[str, Any]]:
    """Read as `read_rows`, with one row in memory at a time."""
    if os.path.lexists(path):
        yield from (row for _, row in _whole_lines(path))


def count_incidents(path: Path) -> dict[str, int]:
    """Count the incidents of each kind in incidents.jsonl; kinds that there are none of are left out.

    Raises:
        RunError: See `read_rows`.
    """
    found = Counter(str(row.get("kind")) for row in read_rows(path))
    return {kind: found[kind] for kind in get_args(IncidentKind) if found[kind]}


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write metrics.json, a list of one row per epoch.

    Raises:
        OutputError: If it cannot be written; what was there before stays.
    """
    atomic_write(path, to_json(list(rows)))


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with input_errors(f"The metrics log {path}", RunError, "Move it away."):
        descriptor = open_regular(path)
    with open(descriptor, "rb") as file:
        while line := file.readline(_LINE_LIMIT):
            row = _parse(line)
            if row is not None:
                yield line, row


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return row if isinstance(step, int) and 0 <= step <= LARGEST_COUNT else None
