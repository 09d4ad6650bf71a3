"""The memory that `ddpm train --dry-run` foretells against what training takes, which may differ by 25 %.

    python tests/soak/memory_estimate.py

For each of a dozen configs it asks for the estimate, then trains a few steps with evaluation, checkpoint and samples in them, each
in a process of its own, and compares the estimate with the most memory that the latter held. On a CPU; about six minutes.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LIMIT = 0.25
BYTES = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss
# Asked before the interpreter ends, which takes 130 MB more to unload torch alone.
PROGRAM = """
import resource, sys
from ddpm_cli.cli.app import run
status = run(sys.argv[1:], False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""
FEW_STEPS = (
    "--device=cpu",
    "--steps=4",
    "--set=train.log_every=2",
    "--set=train.eval_every=2",
    "--set=train.eval_images=128",
    "--set=train.sample_every=3",
    "--set=train.sampler.steps=2",
    "--set=checkpoint.every=2",
)
COLOUR = ("--data=colour.npz", "--set=model.base_channels=32", "--set=model.channel_mult=[1,2,2]")
CONFIGS: dict[str, tuple[str, ...]] = {
    "quick": ("--preset=quick",),
    "quick, batch 1024": ("--preset=quick", "--batch-size=1024"),
    "quick, batch 4096, micro 256": ("--preset=quick", "--batch-size=4096", "--set=train.micro_batch_size=256"),
    "quick, stem 4, batch 512": (
        "--preset=quick",
        "--batch-size=512",
        "--set=model.stem=4",
        "--set=model.attention_resolutions=[]",
    ),
    "default": (),
    "default, batch 512": ("--batch-size=512",),
    "default, batch 512, checkpointing": ("--batch-size=512", "--set=train.gradient_checkpointing=true"),
    "default, stem 1, batch 32": ("--batch-size=32", "--set=model.stem=1"),
    "default, stem 1, attention": ("--batch-size=16", "--set=model.stem=1", "--set=model.attention_resolutions=[28,14]"),
    "default, classes, hybrid": ("--batch-size=256", "--set=model.num_classes=auto", "--set=objective.loss=hybrid"),
    "default, no attention, bf16": ("--batch-size=128", "--set=model.middle_attention=false", "--set=train.precision=bf16"),
    "default, 64 images at a time": ("--batch-size=8", "--set=train.sample_n=256", "--set=sample.batch_size=256"),
    "large network, batch 2": ("--batch-size=2", "--set=model.base_channels=256", "--set=model.stem=4"),
    "colour 64x64, batch 32": (*COLOUR, "--batch-size=32"),
    "colour 64x64, batch 64, micro 16": (*COLOUR, "--batch-size=64", "--set=train.micro_batch_size=16"),
}


def write_colour_images(path: Path) -> None:
    """2,000 images of 64x64 in colour in an .npz file, without NumPy: this process must stay smaller than those it measures."""
    shape = (2000, 64, 64, 3)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(shape[0]):
            member.write(os.urandom(64 * 64 * 3))


def estimated_bytes(arguments: tuple[str, ...], cwd: Path) -> int:
    """What `ddpm train --dry-run` says."""
    command = [sys.executable, "-m", "ddpm_cli", "train", *arguments, "--dry-run", "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return int(json.loads(done.stdout)["estimated_bytes"])


def held_bytes(arguments: tuple[str, ...], cwd: Path) -> int:
    """The most memory that the process of `ddpm train` holds until it has trained."""
    command = [sys.executable, "-c", PROGRAM, "train", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return int(done.stdout) * BYTES


def main() -> None:
    """Measure, print and judge; names of configs as arguments choose among them."""
    worst = 0.0
    print(f"{'config':<36} {'estimated':>10} {'held':>10}  ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_colour_images(folder / "colour.npz")
        for config, arguments in CONFIGS.items():
            if sys.argv[1:] and config not in sys.argv[1:]:
                continue
            estimated = estimated_bytes((*arguments, *FEW_STEPS), folder)
            held = held_bytes((*arguments, *FEW_STEPS), folder)
            worst = max(worst, abs(estimated / held - 1.0))
            print(f"{config:<36} {estimated / 1e6:>7,.0f} MB {held / 1e6:>7,.0f} MB  {estimated / held:.3f}", flush=True)
    print(f"largest difference: {worst:.1%}, at most {LIMIT:.0%}")
    if worst > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
