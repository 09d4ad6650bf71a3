"""Loss of power at every instant of a run's life: what was not synced is gone, and the last save that had returned is there.

A model of a disk follows each file operation. A file keeps the bytes of its last fsync; a folder keeps the names of its last fsync.
What came later was perhaps written back in the meantime and perhaps not, so each instant stands for many states of the disk: every
change of a name since then may be there or not, and each file may have its old or its new bytes. Each such state is laid out in a
folder of its own and looked at by the reader.
(A real journal keeps more order than this; no file system that obeys POSIX keeps less.)
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.runs.checkpoints import latest_checkpoint, save_checkpoint
from ddpm_cli.runs.directory import create_run, read_info, sweep_run, write_info
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows
from ddpm_cli.runs.run_directory import RunDirectory

MOST_SUBSETS = 32


@dataclass
class File:
    """Bytes now, and at the last fsync."""

    now: bytes = b""
    synced: bytes = b""


Change = Mapping[str, "File | Folder | None"]


@dataclass
class Folder:
    """Names now, names at the last fsync, and the changes between them, each of which is one step for the disk."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def change(self, names: Change) -> None:
        self.changes.append(names)
        self.now = _changed(self.now, names)

    def sync(self) -> None:
        self.synced, self.changes = dict(self.now), []


def _changed(names: dict[str, File | Folder], change: Change) -> dict[str, File | Folder]:
    return {name: node for name, node in (dict(names) | dict(change)).items() if node is not None}


class Disk:
    """Follows the operations below `root`; `look` is called after each, and what it does itself is not followed."""

    def __init__(self, root: Path, look: Callable[[], None]) -> None:
        self.root, self.look = root, look
        self.looking = False
        self.tree = Folder()
        self.open_nodes: dict[int, tuple[Path, File | Folder]] = {}

    def at_each_instant(self) -> None:
        self.looking = True
        self.look()
        self.looking = False

    def follows(self, path: Path) -> bool:
        return not self.looking and path.is_relative_to(self.root)

    def node(self, path: Path) -> File | Folder:
        node: File | Folder = self.tree
        for part in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            if part not in node.now:  # made by an operation that is not followed, such as Python's own open
                node.change({part: Folder() if path.is_dir() else File()})
            node = node.now[part]
        return node

    def parent(self, path: Path) -> Folder:
        parent = self.node(path.parent)
        assert isinstance(parent, Folder)
        return parent

    def path_of(self, path: Any, folder: int | None) -> Path:
        if folder is None:
            return Path(path)
        return self.open_nodes[folder][0] / path if folder in self.open_nodes else Path("elsewhere", path)

    @contextmanager
    def watched(self) -> Iterator[None]:
        real = {name: getattr(os, name) for name in ("open", "write", "ftruncate", "fsync", "close", "mkdir", "unlink", "rmdir")}
        rename = os.rename

        def opened(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **named: Any) -> int:
            descriptor: int = real["open"](path, flags, *rest, dir_fd=dir_fd, **named)
            full = self.path_of(path, dir_fd)
            self.open_nodes.pop(descriptor, None)  # its number may be that of a file which Python itself has closed
            if self.follows(full):
                self.open_nodes[descriptor] = full, self.node(full)
                self.at_each_instant()
            return descriptor

        def on_descriptor(name: str) -> Callable[..., Any]:
            def call(descriptor: int, *rest: Any) -> Any:
                # The model's disk is synced, not this machine's.
                result = None if name == "fsync" else real[name](descriptor, *rest)
                if self.looking:
                    return result
                known = self.open_nodes.pop(descriptor, None) if name == "close" else self.open_nodes.get(descriptor)
                if known is not None and name != "close":
                    path, node = known
                    if isinstance(node, File):
                        node.now = path.read_bytes()
                    if name == "fsync" and isinstance(node, File):
                        node.synced = node.now
                    elif name == "fsync" and isinstance(node, Folder):
                        node.sync()
                    self.at_each_instant()
                return result

            return call

        def on_name(name: str) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, dir_fd: int | None = None, **named: Any) -> None:
                full = self.path_of(path, dir_fd)
                real[name](path, *rest, dir_fd=dir_fd, **named)
                if self.follows(full):
                    self.parent(full).change({full.name: Folder() if name == "mkdir" else None})
                    self.at_each_instant()

            return call

        def renamed(source: Path, target: Path) -> None:
            if not self.follows(source):
                return rename(source, target)
            node = self.node(source)
            rename(source, target)
            assert source.parent == target.parent
            self.parent(source).change({source.name: None, target.name: node})
            self.at_each_instant()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", opened)
            for name in ("write", "ftruncate", "fsync", "close"):
                patch.setattr(os, name, on_descriptor(name))
            for name in ("mkdir", "unlink", "rmdir"):
                patch.setattr(os, name, on_name(name))
            patch.setattr(os, "rename", renamed)
            patch.setattr(os, "replace", renamed)
            yield

    def states(self, draws: random.Random) -> Iterator[Found]:
        """What the disk may hold if the power goes now."""
        pending = [(folder, change) for folder in _folders(self.tree) for change in folder.changes]
        few = 2 ** len(pending) <= MOST_SUBSETS
        everything = itertools.product((False, True), repeat=len(pending))
        drawn = ([draws.random() < 0.5 for _ in pending] for _ in range(MOST_SUBSETS - 2))
        subsets = everything if few else itertools.chain([[False] * len(pending), [True] * len(pending)], drawn)
        for kept, new_bytes in itertools.product(subsets, (False, True)):
            yield _found(self.tree, [change for change, keep in zip(pending, kept, strict=True) if keep], new_bytes)


Found = dict[str, Any]
"""Bytes of a file or the same for a folder, by name."""


def _folders(tree: Folder) -> Iterator[Folder]:
    yield tree
    below = {id(node): node for names in (tree.now, tree.synced) for node in names.values() if isinstance(node, Folder)}
    for node in below.values():
        yield from _folders(node)


def _found(folder: Folder, kept: Sequence[tuple[Folder, Change]], new_bytes: bool) -> Found:
    names = folder.synced
    for changed, change in kept:
        names = _changed(names, change) if changed is folder else names
    return {
        name: _found(node, kept, new_bytes) if isinstance(node, Folder) else node.now if new_bytes else node.synced
        for name, node in names.items()
    }


def _lay_out(found: Found, target: Path) -> None:
    target.mkdir()
    for name, content in found.items():
        if isinstance(content, dict):
            _lay_out(content, target / name)
        else:
            (target / name).write_bytes(content)


@dataclass
class Promise:
    """What the program has said is saved."""

    run: str = ""
    step: int = 0


def live(root: Path, promise: Promise) -> None:
    """A run's life: made, saved, saved again at the same step, with the log and the history growing, and resumed once."""
    run = create_run(root / "runs", "mine", "quick")
    atomic_write(run.config_path, "a = 1\n")
    write_info(run, {"created": 1.0})
    promise.run = "runs/mine"
    log = MetricsLog(run.metrics_log)
    for step in (1, 2, 2, 3):
        if step > promise.step:
            log.append({"step": step})
            log.sync()
        tensors = {"model": {"w": torch.full((3,), float(step))}}
        save_checkpoint(run, step, tensors, {"mark": step}, "a = 1\n", keep_last=1, best=step == 1)
        promise.step = step
    atomic_write(run.metrics_history, "[]\n")
    log.append({"step": 4})
    log.truncate_after(3)
    sweep_run(run)
    log.append({"step": 4})
    log.close()


def check(folder: Path, promise: Promise) -> None:
    """What a resume would find."""
    if not promise.run:
        return
    run = RunDirectory(folder / promise.run)
    assert read_info(run) == {"created": 1.0}
    assert run.config_path.read_text() == "a = 1\n"
    if promise.step == 0:
        return
    latest = latest_checkpoint(run)
    assert latest.step >= promise.step
    assert latest.state["mark"] == latest.step
    assert latest.tensors("model")["w"].eq(latest.step).all()
    assert set(range(1, latest.step + 1)) <= {row["step"] for row in read_rows(run.metrics_log)}
    MetricsLog(run.metrics_log).truncate_after(latest.step)
    sweep_run(run)
    assert [row["step"] for row in read_rows(run.metrics_log)] == list(range(1, latest.step + 1))
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


def test_after_loss_of_power_what_was_said_to_be_saved_is_there(tmp_path: Path) -> None:
    root, scratch, draws, promise = tmp_path / "disk", tmp_path / "found", random.Random(0), Promise()
    root.mkdir()
    looked_at: list[tuple[Found, Promise]] = []

    def look() -> None:
        for found in disk.states(draws):
            if (found, promise) not in looked_at:
                _lay_out(found, scratch)
                check(scratch, promise)
                shutil.rmtree(scratch)
                looked_at.append((found, replace(promise)))

    disk = Disk(root, look)
    with disk.watched():
        live(root, promise)
    assert len(looked_at) > 200
