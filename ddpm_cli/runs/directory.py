"""Find the run folder, make it, and say where things are in it."""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import (
    atomic_write,
    input_errors,
    output_errors,
    printable,
    read_json_object,
    require_writable_folder,
    sweep_temporaries,
    sync_path,
    to_json,
)
from ddpm_cli.errors import RunError, RunLockedError
from ddpm_cli.runs.checkpoints import has_checkpoint
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory

IMPORTED_FROM = "imported_from"
"""In run.json: the folder or file of another program that the run was made from, see `ddpm import`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|.*\.", re.IGNORECASE)
"""Names that Windows keeps for devices, or loses the end of."""
RESTORE = "Choose another run, or restore the file."


def create_run(root: Path, name: str | None, prefix: str) -> RunDirectory:
    """Make a new run folder with its `samples` and `checkpoints`.

    Args:
        root: The folder of all runs; made if it does not exist, but not the folders above it.
        name: The run's name, or None for the next free `prefix-001`, `prefix-002`, ...
        prefix: Start of the numbered name.
    Raises:
        RunError: If the name is taken or no plain file name.
        OutputError: If the folder cannot be made.
    """
    check_run_name(f"{prefix}-001" if name is None else name)
    with output_errors(root):
        root.mkdir(exist_ok=True)
        run = RunDirectory(_make_numbered(root, prefix) if name is None else _make_named(root, name))
    with output_errors(run.path), _removed_if_it_fails(run.path):
        run.samples_folder.mkdir()
        run.checkpoints_folder.mkdir()
        for folder in (run.path, root, root.parent):  # a folder's own name is on the disk with the one above it
            sync_path(folder)
    return run


def check_new_run(root: Path, name: str | None, prefix: str) -> None:
    """Refuse what `create_run` would refuse, as things stand now, and write nothing.

    Raises:
        RunError: If the name is taken or no plain file name.
        OutputError: If the folder cannot be made.
    """
    check_run_name(prefix if name is None else name)
    require_writable_folder(root)
    if name is not None and os.path.lexists(root / name):
        raise _taken(root / name)


@contextmanager
def _removed_if_it_fails(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_run_name(name: str) -> None:
    """Refuse names that are no single, visible, portable part of a path, so that no run lands outside its root.

    Raises:
        RunError: If it is none.
    """
    if not _NAME.fullmatch(name):
        raise RunError(
            f"{printable(name)!r} cannot be the name of a run.",
            "Use 1 to 100 letters a-z, digits, '.', '_' and '-', starting with a letter or digit.",
        )
    if _OF_WINDOWS.fullmatch(name):
        raise RunError(f"{name!r} cannot be the name of a run: Windows could not hold such a folder.", "Choose another name.")


def name_from(config: Path) -> str:
    """Start a run's name with a config file's, without what a run's name must not have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", config.stem).strip("-._")[:80] or "run"


def _make_numbered(root: Path, prefix: str) -> Path:
    pattern = re.compile(re.escape(prefix) + r"-(\d{1,9})")
    taken = [int(found[1]) for path in root.iterdir() if (found := pattern.fullmatch(path.name))]
    number = max(taken, default=0) + 1
    while True:
        path = root / f"{prefix}-{number:03d}"
        try:
            os.mkdir(path)
        except FileExistsError:  # another process was faster
            number += 1
        else:
            return path


def _make_named(root: Path, name: str) -> Path:
    path = root / name
    try:
        os.mkdir(path)
    except FileExistsError as error:
        raise _taken(path) from error
    return path


def _taken(path: Path) -> RunError:
    if not RunDirectory(path).info_path.is_file():
        message = f"There is already a {path}, and it is no run: it has no run.json."
        return RunError(message, "Remove it if a start was killed there, or choose another name.")
    return RunError(f"There is already a run {path}.", f"Go on with it by `ddpm resume {path.name}`, or choose another name.")


def find_run(root: Path, run: str | Path | None, *, need_checkpoint: bool = False) -> RunDirectory:
    """Find the run that was asked for, or the newest.

    Args:
        root: The folder of all runs.
        run: A name below `root`, such as quick-001 or SWEEP/RUN, the path of a run folder, or None for the run created last.
        need_checkpoint: When choosing the newest, pass over runs that have no checkpoint.
    Raises:
        RunError: If there is none; names that are nearly the same are suggested.
    """
    if run is None:
        return _newest(root, need_checkpoint)
    path = root / run if _is_name(run) and (root / run).is_dir() else Path(run)
    if os.path.isfile(path):
        message = f"{printable(str(run))} is a file, and what is needed here is a run: the folder that `ddpm train` writes."
        raise RunError(message, "Name a run below runs/ or the path of a run folder.")
    if not os.path.isdir(path):  # unlike Path.is_dir it answers for a name that is too long
        raise _not_found(root, str(run))
    return checked_run(RunDirectory(path))


def _is_name(run: str | Path) -> bool:
    return all(_NAME.fullmatch(part) for part in Path(run).parts)


def list_runs(root: Path) -> list[RunDirectory]:
    """List all runs below `root` with a readable run.json, the one created last first.

    Raises:
        RunError: If the folder may not be read.
    """
    if not root.is_dir():
        return []
    with input_errors(root, RunError, RESTORE, "Check its permissions, or name another folder."):
        moments = {path: _created(RunDirectory(path)) for path in root.iterdir()}
    dated = [(moment, path) for path, moment in moments.items() if moment is not None]
    return [RunDirectory(path) for _, path in sorted(dated, reverse=True)]


def _newest(root: Path, need_checkpoint: bool) -> RunDirectory:
    for run in list_runs(root):
        if not need_checkpoint or has_checkpoint(run):
            return checked_run(run)
    with_checkpoint = " with a checkpoint" if need_checkpoint else ""
    raise RunError(f"No run{with_checkpoint} was found below {root}.", "Train one first: ddpm train --preset quick")


def checked_run(run: RunDirectory) -> RunDirectory:
    """Check that files can be written in a run folder without landing elsewhere.

    Raises:
        RunError: If it is none, or a folder in it is a symbolic link.
    """
    if not run.info_path.is_file():
        raise RunError(
            f"{run.path} is not a run folder: it has no run.json.", "Name a run below runs/ or the path of a run folder."
        )
    for folder in (
        run.checkpoints_folder,
        run.samples_folder,
        run.averages_folder,
        run.evaluations_folder,
        run.tensorboard_folder,
        run.wandb_folder,
    ):
        if folder.is_symlink():  # whoever made it could have us write anywhere
            raise RunError(
                f"{folder} is a symbolic link, which a run folder must not contain.", "Link the whole run folder instead."
            )
    return run


def _not_found(root: Path, run: str) -> RunError:
    names = [known.path.name for known in list_runs(root)]
    if not names:
        return RunError(
            f"There is no run '{printable(run)}': no run was found below {root}.", "Train one first: ddpm train --preset quick"
        )
    near = difflib.get_close_matches(printable(run), names, n=3, cutoff=0.6)
    remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names[:10])}."
    return RunError(f"There is no run '{printable(run)}' below {root}, and no such folder.", remedy)


def _created(run: RunDirectory) -> float | None:
    """When the run was created, in seconds since 1970, or None if it is no run."""
    try:
        created = read_info(run).get("created")
    except RunError:
        return None
    return created if isinstance(created, float) and math.isfinite(created) else -math.inf


def write_info(run: RunDirectory, info: Mapping[str, Any]) -> None:
    """Write run.json; `created`, in seconds since 1970, is what the newest run is chosen by.

    Raises:
        OutputError: If it cannot be written.
    """
    atomic_write(run.info_path, to_json(dict(info)))


def data_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """Read what run.json says of the data, as strangers may have it; nothing if it says nothing."""
    data = info.get("data")
    return data if isinstance(data, dict) else {}


def read_info(run: RunDirectory) -> dict[str, Any]:
    """Read run.json, which may come from a stranger.

    Raises:
        RunError: If it is missing or damaged.
    """
    with input_errors(run.info_path, RunError, RESTORE):
        return read_json_object(run.info_path)


def sweep_run(run: RunDirectory) -> list[str]:
    """Remove what a killed process left half written in a run; to be called under its lock.

    Returns:
        The names that were removed.
    Raises:
        OutputError: If one cannot be removed.
    """
    folders = (run.path, run.samples_folder, run.checkpoints_folder, run.averages_folder)
    return [name for folder in folders for name in sweep_temporaries(folder)] + _sweep_evaluations(run.evaluations_folder)


def _sweep_evaluations(evaluations: Path) -> list[str]:
    """The same below the folder of evaluations, unless one is at work there, which has a lock of its own."""
    if not evaluations.is_dir():
        return []
    with suppress(RunLockedError), locked(RunDirectory(evaluations)):
        return [name for folder, _, _ in os.walk(evaluations) for name in sweep_temporaries(Path(folder))]
    return []
