"""How often an ordinary step is called a spike, for each objective and batch size.

    python tests/soak/spike_false_alarms.py [STEPS] [SEED]

Trains a small network for STEPS (2,000) steps with each, on the images that come with the package, and counts the spikes logged.
None of these runs diverges, so each spike is a false alarm. Takes about 20 minutes on one core. Exit status 1 if more than 1 step
in 1,000 of all, or 1 in 200 of any, was called one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.training.health import LEAST_LOSSES
from ddpm_cli.training.train import train

OBJECTIVES = {
    "simple": [],
    "vlb": ["objective.loss=vlb"],
    "hybrid": ["objective.loss=hybrid"],
    "min-snr": ["objective.weighting=min-snr"],
    "snr, v": ["objective.weighting=snr", "objective.parameterization=v"],
    "vlb, loss-aware": ["objective.loss=vlb", "objective.timesteps=loss-aware"],
    "x0": ["objective.parameterization=x0"],
    "edm, log-normal": ["objective.parameterization=edm", "objective.timesteps=log-normal"],
    "vlb, learned schedule": ["objective.loss=vlb", "schedule.kind=learned"],
}
SETTINGS = [
    "data.kind=fashion-mnist-10k",
    "model.base_channels=16",
    "model.blocks_per_level=1",
    "model.stem=4",
    "optimizer.lr=1e-3",
    "train.eval_images=8",
    "train.sample_n=1",
    "train.sampler.steps=1",
    "train.device=cpu",
]


def spikes(sets: list[str], batch: int, steps: int, seed: int) -> int:
    """Spikes that a run of these settings logs."""
    wanted = [*SETTINGS, *sets, f"train.batch_size={batch}", f"train.steps={steps}", f"train.seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        summary = train(load_config(sets=wanted).config, runs=Path(folder), name="run")
    return summary.incidents.get("spike", 0)


def main() -> int:
    """Count for all of them; the exit status."""
    steps, seed = (int(text) for text in [*sys.argv[1:], *("2000", "0")[len(sys.argv) - 1 :]])
    judged, found, worst = 0, 0, 0.0
    for batch in (8, 32, 128):
        for name, sets in OBJECTIVES.items():
            count = spikes(sets, batch, steps, seed)
            judged, found, worst = judged + steps - LEAST_LOSSES, found + count, max(worst, count / (steps - LEAST_LOSSES))
            sys.stdout.write(f"batch {batch:3d}, {name}: {count} spikes in {steps - LEAST_LOSSES:,} steps\n")
            sys.stdout.flush()
    sys.stdout.write(f"all: {found} in {judged:,} steps, {found / judged:.3%}; worst {worst:.3%}\n")
    return int(found / judged > 1e-3 or worst > 5e-3)


if __name__ == "__main__":
    sys.exit(main())
