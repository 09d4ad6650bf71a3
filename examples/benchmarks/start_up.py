"""How long `ddpm sample --n 36` takes from process start to picture, beside `import torch` alone.

    python examples/benchmarks/start_up.py [RUN] [--turns 15]

RUN is a run of the preset `quick`; without one, a run of 20 steps is trained first in a folder of its own (about 20 s). Both
commands take turns, A B A B, so that whatever else the machine does meets both; a turn takes about 5 s. Prints the median time of
each and the ratio, by the clock and by the processor's time; exit status 1 if the ratio by the clock exceeds 1.6.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

MOST = 1.6
DDPM = [sys.executable, "-m", "ddpm_cli"]
TRAIN = [*DDPM, "train", "--preset", "quick", "--steps", "20", "--name", "quick", "--set", "train.eval_images=16"]


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """By the clock, and of the processors."""
    began, before = time.monotonic(), os.times()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - began, used


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.run is None:
            subprocess.run(TRAIN, cwd=folder, check=True, capture_output=True)
        run = folder / "runs" / "quick" if arguments.run is None else arguments.run.resolve()
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "ddpm sample": [*DDPM, "sample", str(run), "--n", "36", "--out", str(folder / "grid.png")],
        }
        for command in commands.values():  # once for the file cache
            seconds(command, folder)
        turns = [{name: seconds(command, folder) for name, command in commands.items()} for _ in range(arguments.turns)]
    medians = {name: [median(turn[name][kind] for turn in turns) for kind in (0, 1)] for name in commands}
    for name, (clock, used) in medians.items():
        print(f"{name:14} {clock:6.3f} s by the clock, {used:6.3f} s of processors")
    by_clock, by_processor = (medians["ddpm sample"][kind] / medians["import torch"][kind] for kind in (0, 1))
    print(f"ratio          {by_clock:6.3f}   by the clock, {by_processor:6.3f}   of processors  (at most {MOST} by the clock)")
    return int(by_clock > MOST)


if __name__ == "__main__":
    sys.exit(main())
