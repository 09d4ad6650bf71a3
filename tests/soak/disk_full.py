"""Train on a real file system that runs full, at many places, and go on when there is room again. Needs root, for mounting a tmpfs.

python tests/soak/disk_full.py [TRIALS] [SEED]     60 trials from seed 0, 5 to 15 minutes on a core

Half of the trials limit the bytes of the file system, at sizes drawn over all that a run writes; half limit its number of files,
so that each file in turn is the one that cannot be made. Each time the command must end with one message that names a file and says
that the disk is full, with status 1 and no traceback; what it had announced is there; and once the file system is made larger,
`ddpm resume` (or `ddpm train`, if there is no run yet) ends with the bits of a run that had room all the time.

Then each command that writes something else (WRITERS) meets OUTPUT_LIMITS, in bytes and in inodes beyond what is there:
it must end likewise, without naming a hidden temporary file or leaving one, and with nothing new on the disk but what is whole.

Last the file system is made read-only, and `resume`, `train`, `sample` and `evaluate` must each refuse it in one message.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import numpy as np
from command import TINY
from forked import fork_command
from kills import ANNOUNCED, bits, finish, read_log, require
from PIL import Image
from tiny_configs import tiny_base

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory

ARGUMENTS = (
    *TINY,
    "--steps=12",
    "--name=run",
    "--set=train.log_every=1",
    "--set=train.sample_every=3",
    "--set=checkpoint.every=4",
    "--set=checkpoint.keep_last=9",
    "--set=data.limit=24",  # an epoch is three steps, so that metrics.json is written often
)
MESSAGE = re.compile(r"Cannot write (\S+): the disk is full[.:]")
SPACE_CHECK = re.compile(r"GB are free|bytes free")
ROOM = "size=64m,nr_inodes=0"
ROOMY = "size=64m,nr_inodes=100000"
"""As ROOM, on a disk that counts its inodes."""
NUMBERS = re.compile(r"[0-9a-f]{24,}|\d+")
OUTPUT_LIMITS = (("0k", "40k", "400k"), ("+0", "+1", "+3"))
"""Room beyond what is there, in bytes and in inodes; more is not tried once it suffices."""

FEW_STEPS = {"train.steps": 2, "sample.sampler.kind": "ddim", "sample.sampler.steps": 2}
SWEEP = f"""
seeds = [0]
{tiny_base({"data.limit": 24, "schedule.timesteps": 20} | FEW_STEPS)}
[grid]
optimizer.lr = [1e-4, 1e-3]
"""
DRAW = ("--n=4", "--steps=2", "--sampler=ddim", "--no-preview")
WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sample": ("", ("sample", "run", *DRAW, "--out=grid.png")),
    "sample jpg": ("", ("sample", "run", *DRAW, "--out=grid.jpg")),
    "sample gif": ("grid.png", ("sample", "run", *DRAW, "--out=grid.png", "--trajectory=way.gif")),
    "sample --each": (r"singles(/\d\.png)?", ("sample", "run", *DRAW, "--each=singles", "--out=grid.png")),
    "interpolate": (
        r"frames(/\d\.png)?",
        ("interpolate", "0", "1", "--run=run", "--n=3", "--steps=2", "--out=path.png", "--each=frames"),
    ),
    "export": ("", ("export", "run", "--out=model.safetensors")),
    "export program": ("", ("export", "run", "--format=torch-export", "--out=model.pt2")),
    "export onnx": ("", ("export", "run", "--format=onnx", "--out=model.onnx")),
    "export diffusers": ("", ("export", "run", "--format=diffusers", "--out=pipeline")),
    "compare": ("", ("compare", "run", "other", "--n=2", "--out=comparison")),
    "report": ("", ("report", "run", "--out=page.html")),
    "evaluate": (
        r"(cache|runs/run/evaluations)(/.*)?",
        ("evaluate", "run", "--metrics=fcd,loss-per-timestep", "--n=64", "--steps=2"),
    ),
    "import": ("", ("import", "../pipeline", "--name=imported", "--set=data.limit=24")),
    "sweep": (r"runs/sweep(/.*)?", ("sweep", "../sweep.toml")),
    "config init": ("", ("config", "init", "mine.toml")),
    "inspect-schedule": ("", ("inspect-schedule", "--kind=linear", "--out=plot.png")),
    "image cache": (
        r"(cache|runs/pictures)(/.*)?",
        ("train", "--data=../pictures", *TINY[1:], "--set=data.size=16", "--steps=1", "--name=pictures"),
    ),
}
"""What each may leave when the disk is full, whole as it is; and its arguments."""


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs at `folder`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change its limits."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def run_command(arguments: list[str], disk: Path) -> tuple[int, str]:
    """Exit status and output of a command in `disk`."""
    log = disk.parent / "log"
    status = fork_command(arguments, disk, log).wait()
    return status, log.read_text()


def fill_and_go_on(disk: Path, options: str, whole: RunDirectory) -> str:
    """One trial; returns the name of the file that could not be written, or "" if there was room for all."""
    with mounted(disk, options):
        status, output = run_command(["train", *ARGUMENTS], disk)
        run = RunDirectory(disk / "runs" / "run")
        flat = " ".join(output.split())
        if status == 0:
            failed = ""
        else:
            found = MESSAGE.search(flat)
            require(status == 1 and found is not None, f"{options}: status {status}, {output}")
            require("Traceback" not in output and "internal error" not in output, output)
            assert found is not None
            failed = NUMBERS.sub("#", found[1])
        announced = [int(step) for step in ANNOUNCED.findall(output)]
        if announced:
            latest = latest_checkpoint(run)
            require(latest.step >= max(announced) and latest.skipped == (), f"{options}: lost {announced}")
        if failed:
            require(f"{disk}" not in failed, output)
            remount(disk, ROOM)
            go_on = ["resume", "run"] if run.info_path.exists() else ["train", *ARGUMENTS]
            if go_on[0] == "resume":
                require("ddpm resume runs/run" in flat or "lock" in failed, output)
            status, output = run_command(go_on, disk)
            require(status == 0, f"{options}, failed at {failed}: {output}")
        require(bits(run) == bits(whole), f"{options}: the weights differ")
        require([row["loss"] for row in read_log(run)] == [row["loss"] for row in read_log(whole)], f"{options}: the log differs")
        require(not list(run.path.rglob(f"{TEMPORARY_PREFIX}*")), f"{options}: temporary files are left")
        return failed


def entries(disk: Path) -> set[str]:
    """All that lies on the disk."""
    return {str(path.relative_to(disk)) for path in disk.rglob("*")}


def limited(disk: Path, room: str) -> str:
    """Options of a mount that leave so much room."""
    state = os.statvfs(disk)
    if room.startswith("+"):
        return f"size=64m,nr_inodes={state.f_files - state.f_ffree + int(room)}"
    used = (state.f_blocks - state.f_bfree) * state.f_frsize // 1024
    return f"size={used + int(room.removesuffix('k'))}k,nr_inodes=100000"


def fill_outputs(disk: Path, folder: Path, names: Iterable[str]) -> None:
    """Let each command of WRITERS run into each limit; `folder` holds the runs, and the one above it what else is read."""
    for name in names:
        arguments, failures, began = WRITERS[name][1], Counter[str](), time.monotonic()
        with mounted(disk, ROOMY):
            os.environ["DDPM_CACHE"] = str(disk / "cache")
            shutil.copytree(folder / "runs", disk / "runs")
            for limits in OUTPUT_LIMITS:
                failed = takewhile(bool, (meet_limit(disk, name, room) for room in limits))
                failures.update(failed)
            status, output = run_command(list(arguments), disk)
            written_before = name == "config init" and status == 2
            require(status == 0 or written_before, f"{name} with room: {output}")
        told = ", ".join(f"{count} x {path}" for path, count in failures.items())
        print(f"{name}: {told}; {time.monotonic() - began:.0f} s", flush=True)


def meet_limit(disk: Path, name: str, room: str) -> str:
    """One command with so much room; returns the file that could not be written, or "" if there was room for all."""
    may_leave, arguments = WRITERS[name]
    before = entries(disk)
    remount(disk, limited(disk, room))
    status, output = run_command(list(arguments), disk)
    remount(disk, ROOMY)
    what = f"{name} with {room}: status {status}, {output}"
    require(not re.search(rf"Traceback|internal error|{re.escape(TEMPORARY_PREFIX)}", output), what)
    new = entries(disk) - before
    require(not any(TEMPORARY_PREFIX in path for path in new), f"{what}: {sorted(new)}")
    remove(disk, new)  # the next limit begins without it: a name that is taken is refused
    if status == 0:
        return ""
    found = MESSAGE.search(re.sub(r"(?<=[-/]) ", "", " ".join(output.split())))
    require(all(re.fullmatch(may_leave, path) for path in new), f"{what}: {sorted(new)}")
    if status == 2 and SPACE_CHECK.search(output):  # refused before any work
        return "the check before"
    require(status == 1 and found is not None, what)
    assert found is not None
    return NUMBERS.sub("#", os.path.relpath(disk / found[1], disk))


def remove(disk: Path, names: Iterable[str]) -> None:
    """Remove entries of a disk, from the deepest up."""
    for name in sorted(names, reverse=True):
        path = disk / name
        path.rmdir() if path.is_dir() else path.unlink()


def prepare_inputs(folder: Path) -> None:
    """Two runs, a pipeline, pictures and the file of a sweep."""
    for run in ("run", "other"):
        require(run_command(["train", *ARGUMENTS, "--set=model.stem=1", "--steps=2", f"--name={run}"], folder)[0] == 0, run)
    status, output = run_command(["export", "run", "--format=diffusers", "--out=pipeline"], folder)
    require(status == 0, output)
    (folder / "pictures").mkdir()
    draws = np.random.default_rng(0)
    for number in range(200):
        Image.fromarray(draws.integers(0, 256, (16, 16), np.uint8)).save(folder / "pictures" / f"{number}.png")
    (folder / "sweep.toml").write_text(SWEEP)


def refuse_read_only(disk: Path) -> None:
    """Each command says that the file system is read-only."""
    with mounted(disk, ROOM):
        status, output = run_command(["train", *ARGUMENTS, "--steps=2"], disk)
        require(status == 0, output)
        remount(disk, "ro")
        for command in (
            ["resume", "run", "--steps=4"],
            ["train", *ARGUMENTS[:-1], "--name=other"],
            ["sample", "run", "--n=1", "--out=grid.png"],
            ["evaluate", "run", "--metrics=loss-per-timestep", "--n=2"],
        ):
            status, output = run_command(command, disk)
            flat = " ".join(output.split())
            require(status == 2 and "the file system is read-only" in flat, f"{command}: {status}, {output}")
            require("Traceback" not in output and "internal error" not in output, output)
            print(f"read-only, ddpm {command[0]}: status {status}, {flat[flat.index('Cannot') :][:100]}")


def main() -> int:
    """All trials; the exit status is 1 if one of them lost something."""
    trials, seed = (int(text) for text in [*sys.argv[1:], *("60", "0")[len(sys.argv) - 1 :]])
    started, draws, failures = time.monotonic(), random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="disk-full-") as name:
        folder = Path(name)
        os.environ["DDPM_CACHE"] = str(folder / "cache")
        whole = finish(["train", *ARGUMENTS], folder / "whole")
        paths = list(whole.path.rglob("*"))
        written = sum(path.stat().st_size for path in paths) // 1024
        print(f"a run writes {written:,} KiB in {len(paths)} files and folders", flush=True)
        limits = [f"size={draws.randint(4, written + written // 4)}k" for _ in range(trials // 2)]
        limits += [f"size=64m,nr_inodes={2 + number * (len(paths) + 4) // (trials // 2)}" for number in range(trials - len(limits))]
        for limit in limits:
            failures[fill_and_go_on(folder / "disk", limit, whole)] += 1
        (folder / "inputs").mkdir()
        prepare_inputs(folder / "inputs")
        for name in ("pipeline", "pictures", "sweep.toml"):
            (folder / "inputs" / name).rename(folder / name)
        fill_outputs(folder / "disk", folder / "inputs", WRITERS)
        refuse_read_only(folder / "disk")
    for path, count in sorted(failures.items()):
        print(f"{count:3} trials: {'no file failed' if path == '' else path}")
    print(f"{trials} trials, nothing lost, each ended with the bits of a run with room; {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
