"""Write and read checkpoints: folders that are whole or do not exist.

    checkpoints/step-00001000/
      model.safetensors  ema.safetensors  ...   tensors, one file per group
      state.json                                everything else
      config.toml                               the resolved config
      manifest.json                             step, whether it was the best, size and SHA-256 of each file

It is written under a temporary name, synced and renamed, and only then are older ones removed.

That a checkpoint was the best so far stands in its own manifest: both become true in the same rename, where a pointer beside it
could be lost in between. A run's best only improves, so the newest one marked so is the best.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.io.files import (
    UnreadableError,
    discard_folder,
    input_errors,
    open_regular,
    output_errors,
    read_json_object,
    read_text,
    sync_path,
    to_json,
    write_new,
)
from ddpm_cli.core.io.temporaries import temporary_path
from ddpm_cli.core.io.tensor_files import read_tensor_file
from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs.checkpoint_state import State, check_state, is_count

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.runs.run_directory import RunDirectory

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
CONFIG = "config.toml"
_SUFFIX = ".safetensors"
_REPLACED = ".replaced"
_FOLDER_NAME = re.compile(r"step-(\d{8,15})(\.replaced)?")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REMEDY = "Use another checkpoint, or copy this one again from where it is whole."


@dataclass(frozen=True, slots=True)
class Manifest:
    """Hold what a checkpoint says of itself.

    Attributes:
        step: Optimizer steps taken.
        best: True if it was the best of the run so far: by its held-out loss, or what else checkpoint.best_by names.
        files: Size in bytes and SHA-256 (hex) of each file, by name.
    """

    step: int
    best: bool
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Hold a checkpoint whose files agree with their sums.

    Attributes:
        path: Its folder.
        step: Optimizer steps taken.
        best: True if it was the best of the run so far: by its held-out loss, or what else checkpoint.best_by names.
        state: Everything that is no tensor; a key that it lacks is a CheckpointError.
        config_toml: The resolved config of the run.
        skipped: Why newer checkpoints were passed over, one sentence each.
    """

    path: Path
    step: int
    best: bool
    state: dict[str, Any]
    config_toml: str
    skipped: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Tell whether there is a group of tensors of this name."""
        return name + _SUFFIX in read_manifest(self.path).files

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read one group of tensors, on the CPU.

        Args:
            name: The group, for example "ema".
        Raises:
            CheckpointError: If the checkpoint has no such group or its file is no safetensors file.
        """
        if not self.has(name):
            raise CheckpointError(
                f"Checkpoint {self.path} has no {name} tensors.", "Use a checkpoint that was made by `ddpm train`."
            )
        with _reading(self.path / (name + _SUFFIX)):
            return read_tensor_file(self.path / (name + _SUFFIX)).tensors


# -------------------------------------------------------------------------------------------------------------- saving


def save_checkpoint(
    run: RunDirectory,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    config_toml: str,
    *,
    keep_last: int,
    best: bool,
    last_good_step: int | None = None,
) -> Path:
    """Write a checkpoint, then remove those no longer needed.

    Once this returns the checkpoint survives a loss of power; until it is in place the earlier ones are all there. One of the same
    step is replaced. One of a later step is removed: it is damaged, or belongs to a course of training that this one leaves.

    Args:
        run: The run, locked by this process.
        step: Optimizer steps taken.
        tensors: Groups of tensors by name, for example "model" and "ema"; each becomes one file. Any device; each group is held
            once more in memory while it is written.
        state: Everything else, as JSON: string keys; floats keep every bit.
        config_toml: The resolved config.
        keep_last: How many checkpoints to keep, newest first, at least 1.
        best: True if it is the best so far; the newest such checkpoint is kept beyond `keep_last`.
        last_good_step: The last step whose weights are known to be good: the newest checkpoint until there is kept beyond
            `keep_last`.
    Returns:
        The checkpoint's folder.
    Raises:
        OutputError: If it cannot be written (disk full, quota, read-only); the earlier checkpoints are untouched.
    """
    folder = run.checkpoints_folder
    path = folder / f"step-{step:08d}"
    temporary = temporary_path(path)
    try:
        with output_errors(path):
            if not folder.is_dir():
                os.mkdir(folder)
                sync_path(run.path)
            os.mkdir(temporary)
            write_files(temporary, _contents(tensors, state, config_toml), step, best)
            _put_in_place(temporary, path)
            _prune(run, path, keep_last, last_good_step)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return path


def _contents(
    tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], config_toml: str
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files, one at a time so that only one is in memory."""
    from safetensors.torch import save

    yield CONFIG, config_toml.encode()
    yield STATE, to_json(dict(state)).encode()
    for name, group in tensors.items():
        yield name + _SUFFIX, save({key: _standing_alone(tensor) for key, tensor in group.items()})


def _standing_alone(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, and not a part of a larger storage, which safetensors refuses."""
    plain = tensor.detach().cpu().contiguous()
    return plain if plain.untyped_storage().nbytes() == plain.nbytes else plain.clone()


def write_files(folder: Path, contents: Iterator[tuple[str, bytes]], step: int, best: bool) -> None:
    """Write files one after the other, then the manifest that makes them a checkpoint."""
    files = {}
    for name, data in contents:
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_new(folder / name, data)
    write_new(folder / MANIFEST, to_json({"format": FORMAT, "step": step, "best": best, "files": files}))
    sync_path(folder)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename, keeping an earlier checkpoint of the same step readable under a second name until the new one is there."""
    if path.exists():
        replaced = path.with_name(path.name + _REPLACED)
        if replaced.exists():
            discard_folder(replaced)
        os.rename(path, replaced)
    os.rename(temporary, path)
    sync_path(path.parent)


def _prune(run: RunDirectory, saved: Path, keep_last: int, last_good_step: int | None) -> None:
    readable = [path for path in list_checkpoints(run) if _order(path) <= _order(saved) and _manifest(path)]
    best = [path for path in readable if _is_best(path)]
    good = [] if last_good_step is None else [path for path in readable if step_of(path) <= last_good_step]
    keep = {*readable[-keep_last:], *best[-1:], *good[-1:]}
    for path in _folders(run):
        if path not in keep:
            discard_folder(path)


def _is_best(path: Path) -> bool:
    manifest = _manifest(path)
    return manifest is not None and manifest.best


def _manifest(path: Path) -> Manifest | None:
    """The manifest, or None if there is no valid one; an OSError if the disk gives no answer, so that nothing is removed then."""
    try:
        return _parse_manifest(read_json_object(path / MANIFEST))
    except UnreadableError:
        return None


# ------------------------------------------------------------------------------------------------------------- finding


def list_checkpoints(run: RunDirectory) -> list[Path]:
    """List the checkpoints' folders, oldest first, one per step; their files have not been looked at.

    Raises:
        OSError: If the folder cannot be read.
    """
    by_step = {}
    for path in _folders(run):
        by_step[path.name.removesuffix(_REPLACED)] = path
    return list(by_step.values())


def _folders(run: RunDirectory) -> list[Path]:
    """All checkpoint folders by step; one that is being replaced comes before what replaces it."""
    if not run.checkpoints_folder.is_dir():
        return []
    found = [path for path in run.checkpoints_folder.iterdir() if _FOLDER_NAME.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=_order)


def _order(path: Path) -> tuple[int, bool]:
    return step_of(path), not path.name.endswith(_REPLACED)


def step_of(path: Path) -> int:
    """Read the step off the name of a checkpoint's folder."""
    return int(path.name.removeprefix("step-").removesuffix(_REPLACED))


def has_checkpoint(run: RunDirectory) -> bool:
    """Tell whether some checkpoint has all its files with their sizes; the sums are looked at when it is loaded."""
    try:
        return any(_is_complete(path) for path in _folders(run))
    except OSError:
        return False


def _is_complete(path: Path) -> bool:
    try:
        for name, (size, _) in read_manifest(path).files.items():
            _check_size(path / name, size)
    except CheckpointError:
        return False
    return True


def latest_checkpoint(run: RunDirectory) -> Checkpoint:
    """Find the newest checkpoint that is whole.

    Returns:
        It, with `skipped` telling of newer ones that are damaged.
    Raises:
        CheckpointError: If there is none.
    """
    while True:  # while another process trains, those that were listed may go before they are read
        skipped: list[str] = []
        with _reading(run.checkpoints_folder):
            folders = _folders(run)
        for path in reversed(folders):
            try:
                return replace(load_checkpoint(path), skipped=tuple(skipped))
            except CheckpointError as error:
                skipped.append(error.message)
        with _reading(run.checkpoints_folder):
            if _folders(run) == folders:
                break
    raise CheckpointError(" ".join([f"Run {run.path} has no usable checkpoint.", *skipped]), "Choose another run, or train again.")


# ------------------------------------------------------------------------------------------------------------- loading


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint after all its files were found to agree with their sums; its tensors are read when asked for.

    Args:
        path: The checkpoint's folder.
    Raises:
        CheckpointError: If it is none, or a file is missing, truncated, altered or a link; the message names the file.
    """
    manifest = read_manifest(path)
    _refuse_links(path)
    for name, (size, sha256) in manifest.files.items():
        _check_size(path / name, size)
        _check_sum(path / name, sha256)
    with _reading(path / STATE):
        state = State(read_json_object(path / STATE), str(path / STATE))
        check_state(state)
        if state.get("step", manifest.step) != manifest.step:
            raise UnreadableError(f"is of another step than {MANIFEST}")
    with _reading(path / CONFIG):
        config_toml = read_text(path / CONFIG)
    return Checkpoint(path, manifest.step, manifest.best, state, config_toml)


def read_manifest(path: Path) -> Manifest:
    """Read what a checkpoint says of itself, without looking at its files.

    Raises:
        CheckpointError: If `path` is no checkpoint, or one of a newer format.
    """
    with _reading(path / MANIFEST):
        return _parse_manifest(read_json_object(path / MANIFEST))


def _reading(path: Path) -> AbstractContextManager[None]:
    """Turn what can go wrong with reading `path` into a CheckpointError that names it."""
    return input_errors(path, CheckpointError, _REMEDY, _REMEDY)


def _parse_manifest(raw: dict[str, Any]) -> Manifest:
    version, step, best, files = (raw.get(key) for key in ("format", "step", "best", "files"))
    if isinstance(version, int) and version > FORMAT:
        raise UnreadableError(f"has format {version}, newer than this program's {FORMAT}; update ddpm-cli")
    if version != FORMAT or not is_count(step) or not isinstance(best, bool) or not isinstance(files, dict):
        raise UnreadableError("lacks its format, step, best or files")
    if not {STATE, CONFIG} <= files.keys():
        raise UnreadableError(f"does not list {STATE} and {CONFIG}")
    return Manifest(step, best, {name: _parse_entry(name, entry) for name, entry in files.items()})


def _parse_entry(name: str, entry: Any) -> tuple[int, str]:
    if not _FILE_NAME.fullmatch(name):
        raise UnreadableError(f"names {json.dumps(name[:100])}, which is no plain file name")
    size, sha256 = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not is_count(size) or not isinstance(sha256, str):
        raise UnreadableError(f"has no size and SHA-256 of {name}")
    return size, sha256


def _refuse_links(folder: Path) -> None:
    with _reading(folder):
        for path in folder.iterdir():
            if path.is_symlink():
                raise UnreadableError(f"holds a symbolic link, {path.name!r}, which a checkpoint must not")


def _check_size(path: Path, size: int) -> None:
    with _reading(path), open(open_regular(path), "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            what = "truncated" if found < size else "too long"
            raise UnreadableError(f"is {what}: {found:,} bytes instead of {size:,}")


def _check_sum(path: Path, sha256: str) -> None:
    with _reading(path), open(open_regular(path), "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise UnreadableError("was altered: its SHA-256 differs from the manifest's")
