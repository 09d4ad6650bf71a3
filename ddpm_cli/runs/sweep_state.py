"""Remember in sweep.json which runs of a sweep failed, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ddpm_cli.core.io.files import atomic_write, input_errors, printable, read_json_object, to_json
from ddpm_cli.errors import RunError

FILE = "sweep.json"


def read_failures(folder: Path) -> dict[str, str]:
    """Read why runs of a sweep failed, by name; none if the folder keeps no record of it.

    Raises:
        RunError: If the record is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    with input_errors(path, RunError, "Remove it; runs that failed will be tried again."):
        failed = read_json_object(path).get("failed")
    known = failed if isinstance(failed, dict) else {}
    return {printable(str(name)): printable(str(reason)) for name, reason in known.items()}


def write_failures(folder: Path, failures: Mapping[str, str]) -> None:
    """Keep why runs failed, by name.

    Raises:
        OutputError: If it cannot be written.
    """
    atomic_write(folder / FILE, to_json({"failed": dict(failures)}))
