"""Peak memory of `ddpm evaluate --metrics fcd` for 1,000 and for 10,000 samples; they may differ by 300 MB.

    python tests/soak/evaluate_memory.py

It trains a tiny run in a temporary folder, and measures each evaluation in a process of its own. Minutes on a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from command import TINY

LIMIT = 300_000_000
BYTES = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss
TRAIN = ("train", *TINY, "--set=model.stem=4", "--steps=20", "--batch-size=16", "--name=soak", "--device=cpu")
EVALUATE = ("evaluate", "soak", "--metrics=fcd", "--sampler=ddim", "--steps=2", "--batch-size=64", "--device=cpu", "--json")


def peak_bytes(*arguments: str, cwd: Path) -> int:
    """Run the command and return the most memory that its process held."""
    environment = os.environ | {"DDPM_CACHE": str(cwd / "cache")}
    process = subprocess.Popen([sys.executable, "-m", "ddpm_cli", *arguments], cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"ddpm {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_maxrss * BYTES


def main() -> None:
    """Measure, print and judge."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peak_bytes(*TRAIN, cwd=folder)
        # The first call also computes the reference statistics, which the others find in the cache.
        peaks = {n: peak_bytes(*EVALUATE, f"--n={n}", cwd=folder) for n in (500, 1000, 10_000)}
    difference = peaks[10_000] - peaks[1000]
    for n, peak in peaks.items():
        print(f"{n:>6} samples: {peak / 1e6:,.1f} MB")
    print(f"difference of 10,000 and 1,000: {difference / 1e6:,.1f} MB, at most {LIMIT / 1e6:,.0f} MB")
    if difference > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
