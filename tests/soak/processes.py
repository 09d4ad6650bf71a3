"""Two processes against one, in every way that training can be shared, stopped and taken up again.

python tests/soak/processes.py     about 3 minutes on two cores

At the same global batch, in float32 on the CPU: the losses of two processes, with and without sharding, equal those of one; so
they do when the number of processes changes at a resume, which shows that the images seen do not change either; two processes that
were stopped and resumed, or of which one was killed and the launcher went on, have the bits of two that were not; after a kill all
are gone within a minute, and the message names the process; the grid of samples is the same.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import numpy as np
from command import run_ddpm_anew
from launched import ARGUMENTS, killing, largest_difference, tensors, torchrun
from PIL import Image

STEPS = 50
MIDDLE = "step-00000020"
TRAIN = ("train", *ARGUMENTS, f"--steps={STEPS}", "--name=run", "--set=checkpoint.every=20", "--set=checkpoint.keep_last=5")
LIMIT = 1e-5


class Soak:
    """The folders of the runs, and what was found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed = False

    def run(self, name: str) -> Path:
        """Where a run is."""
        return self.folder / name / "runs" / "run"

    def train(self, name: str, processes: int, *options: str) -> None:
        """A run without interruption."""
        (self.folder / name).mkdir()
        self._start(name, processes, *TRAIN, *options)

    def resume(self, name: str, source: str, processes: int) -> None:
        """Go on with a copy of another run from its middle."""
        shutil.copytree(self.folder / source, self.folder / name)
        for checkpoint in (self.run(name) / "checkpoints").iterdir():
            if checkpoint.name > MIDDLE:
                shutil.rmtree(checkpoint)
        self._start(name, processes, "resume", "run")

    def _start(self, name: str, processes: int, *arguments: str) -> None:
        start = run_ddpm_anew if processes == 1 else torchrun
        done = start(*arguments, cwd=self.folder / name)
        if done.returncode:
            raise SystemExit(f"{name}: exit status {done.returncode}\n{done.stderr}")

    def kill(self, name: str, rank: int, restarts: int) -> tuple[int, str, float]:
        """Train and have one process killed at the first checkpoint; exit status, messages, and seconds until all had ended."""
        folder = self.folder / name
        folder.mkdir()
        variables = killing(rank, self.run(name) / "checkpoints" / MIDDLE, folder / "site")
        done = torchrun(*TRAIN, cwd=folder, options=[f"--max-restarts={restarts}"], **variables)
        ended = time.time()
        killed = re.findall(r"killed at ([\d.]+);", done.stderr)
        return done.returncode, " ".join(done.stderr.split()), ended - float(killed[0])

    def report(self, what: str, good: bool) -> None:
        """Print a finding and remember whether it was bad."""
        print(f"{'ok  ' if good else 'BAD '} {what}", flush=True)
        self.failed |= not good

    def compare_losses(self, what: str, name: str) -> None:
        """With those of one process."""
        difference = largest_difference(self.run("one"), self.run(name))
        self.report(f"{what}: losses of {STEPS} steps differ from one process's by {difference:.1e} at most", difference < LIMIT)

    def compare_bits(self, what: str, name: str) -> None:
        """With those of two processes."""
        ours, theirs = tensors(self.run(name)), tensors(self.run("two"))
        equal = sum(ours[key] == theirs[key] for key in theirs)
        self.report(f"{what}: {equal} of {len(theirs)} tensors have the bits of two uninterrupted processes", ours == theirs)


def compare_grids(soak: Soak) -> None:
    """Samples of one process and of two."""
    command = ("sample", str(soak.run("one")), "-n", "9", "--sampler=ddim", "--steps=10", "--device=cpu")
    grids = []
    for start, name in ((run_ddpm_anew, "one.png"), (torchrun, "two.png")):
        done = start(*command, f"--out={name}", cwd=soak.folder)
        if done.returncode:
            raise SystemExit(done.stderr)
        with Image.open(soak.folder / name) as image:
            grids.append(np.asarray(image, np.int16))
    difference = int(np.abs(grids[0] - grids[1]).max())
    soak.report(f"samples: the grids of one and of two processes differ by {difference} grey levels at most", difference <= 1)


def main() -> int:
    """Print what was found; the exit status is 1 if anything differs."""
    with tempfile.TemporaryDirectory(prefix="processes-") as name:
        soak = Soak(Path(name))
        soak.train("one", 1)
        soak.train("two", 2)
        soak.train("sharded", 2, "--set=train.sharding=full")
        soak.compare_losses("two processes", "two")
        soak.compare_losses("two processes, sharded", "sharded")
        for change, source, processes in (
            ("2 -> 1", "two", 1),
            ("1 -> 2", "one", 2),
            ("2 -> 2", "two", 2),
            ("2 sharded -> 1", "sharded", 1),
            ("2 sharded -> 2", "sharded", 2),
        ):
            soak.resume(change, source, processes)
            soak.compare_losses(f"resumed {change}", change)
        soak.compare_bits("resumed 2 -> 2", "2 -> 2")
        status, _, seconds = soak.kill("restarted", 1, restarts=1)
        soak.report(f"process 1 killed, --max-restarts 1: exit status {status} {seconds:.1f} s later", status == 0)
        soak.compare_bits("restarted", "restarted")
        for rank in (0, 1):
            status, said, seconds = soak.kill(f"killed {rank}", rank, restarts=0)
            named = f"rocess {rank} of 2 on " in said
            what = f"process {rank} killed: all gone after {seconds:.1f} s, exit status {status}"
            soak.report(f"{what}, {'named' if named else 'not named'}", named and seconds < 60 and status == 1)
        compare_grids(soak)
    return int(soak.failed)


if __name__ == "__main__":
    sys.exit(main())
