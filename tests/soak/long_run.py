"""Train 2,000 steps with a checkpoint every 10: memory and open files must be the same in the last hundred steps as in the first.

python tests/soak/long_run.py [STEPS]     2000 steps, about 3 minutes on a core

The command runs in this process, and before each step its resident memory and open file descriptors are read from /proc.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from command import TINY

from ddpm_cli.cli.app import run as run_command
from ddpm_cli.training.trainer import Trainer

PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1e6
LARGEST_GROWTH = 0.01
"""Part by which memory may be larger in the last hundred steps: the allocator's pools fill up over the first thousand."""


def main() -> int:
    """Train and compare; the exit status is 1 if memory or open files have grown."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    memory: list[float] = []
    files: list[int] = []
    take_step = Trainer.train_step

    def step(trainer: Trainer) -> None:
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / MEGABYTE)
        files.append(len(os.listdir("/proc/self/fd")))
        take_step(trainer)

    Trainer.train_step = step  # type: ignore[method-assign]  # a test's wrapper
    arguments = ["train", *TINY, f"--steps={steps}", "--name=run", "--set=checkpoint.every=10", "--set=train.sample_every=50"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="long-run-") as folder:
        os.chdir(folder)
        status = run_command([*arguments, "--set=train.eval_every=50"], debug=False)
        os.chdir("/")
    first, last = statistics.fmean(memory[:100]), statistics.fmean(memory[-100:])
    print(f"{steps:,} steps, {steps // 10:,} checkpoints, {time.monotonic() - started:.0f} s, exit status {status}")
    print(f"resident memory, mean of the first 100 steps {first:.1f} MB, of the last 100 {last:.1f} MB ({last - first:+.1f})")
    print(f"after every 200 steps: {', '.join(f'{value:.1f}' for value in memory[199::200])} MB")
    print(f"open files, most in the first 100 steps {max(files[:100])}, in the last 100 {max(files[-100:])}")
    return int(status != 0 or last > (1 + LARGEST_GROWTH) * first or max(files[-100:]) > max(files[:100]))


if __name__ == "__main__":
    sys.exit(main())
