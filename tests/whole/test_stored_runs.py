"""What the build before levels of noise wrote (commit c4b365f) loads, goes on and draws as it did then.

`stored/` holds a run of 20 steps, the losses of going on with it to 50, exported models of six kinds, and two images of each by
each sampler. With the PyTorch and the instructions that they were made with it is all the same to the bit; others round otherwise.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import ROOT

from ddpm_cli.cli.app import run as run_command
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.trained_model import model_sha256

STORED = ROOT / "tests" / "stored"
MADE_WITH = json.loads((STORED / "made_with.json").read_text())
CPU = Path("/proc/cpuinfo")
MODEL = re.search(r"model name\s*: (.*)", CPU.read_text()) if CPU.is_file() else None
ALIKE = {
    "model": MODEL[1] if MODEL else "",  # libraries choose their kernels by its caches too
    "torch": torch.__version__,
    "cpu": torch.backends.cpu.get_cpu_capability(),
    "threads": torch.get_num_threads(),
} == MADE_WITH
SAMPLERS = {
    "ddim": ["steps=8"],
    "ddim-eta": ["eta=0.5", "steps=8"],
    "ddpm": ["steps=12"],
    "ddpm-large": ["variance=fixed-large", "steps=12"],
    "euler": ["steps=8"],
    "heun": ["steps=6"],
    "dpm-solver++": ["steps=8"],
    "dpm-solver++ 3": ["order=3", "steps=8"],
    "dpm-solver++ sde": ["sde=true", "steps=8"],
    "unipc": ["steps=8"],
    "leading": ["spacing.kind=leading", "steps=7"],
}
CPU_DEVICE = torch.device("cpu")
KINDS = {
    "ddim-eta": "ddim",
    "ddpm-large": "ddpm",
    "dpm-solver++ 3": "dpm-solver++",
    "dpm-solver++ sde": "dpm-solver++",
    "leading": "ddim",
}


SUMS = {
    "eps": "7a6de207fff00d6d2d26916ae0714a34f0f444a00ff94853e01d07b4447b5e7f",
    "edm": "1562b1c035425dbe0bcd034d620594927c391aa059f2ff1a1364b4669053d6fe",
}
"""By which commit 9e83d22 keyed their figures and the samples drawn of them."""


@pytest.mark.parametrize("name", SUMS)
def test_figures_and_drawn_samples_of_older_models_are_found_again(name: str) -> None:
    assert model_sha256(load_trained(STORED / f"{name}.safetensors", CPU_DEVICE)) == SUMS[name]


@pytest.mark.parametrize("file", sorted(path.name for path in STORED.glob("*.safetensors")))
def test_an_exported_model_draws_the_same_images(file: str) -> None:
    trained = load_trained(STORED / file, torch.device("cpu"))
    with np.load(STORED / "samples.npz") as stored:
        for name, options in SAMPLERS.items():
            sets = [f"sample.sampler={KINDS.get(name, name)}", *(f"sample.sampler.{option}" for option in options)]
            settings = override(trained.config, sets=sets).sample
            images = torch.cat(list(generate_samples(trained, range(2), settings))).numpy().astype(int)
            difference = np.abs(images - stored[f"{Path(file).stem}/{name}"]).max()
            assert difference <= (0 if ALIKE else 2), name


def test_a_run_goes_on_to_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(STORED / "run", tmp_path / "runs" / "stored")
    (tmp_path / "runs" / "stored" / "samples").mkdir()  # which git does not keep, being empty
    monkeypatch.chdir(tmp_path)
    assert run_command(["resume", "stored", "--steps=50"], debug=False) == 0
    losses = [row["loss"] for row in read_rows(Path("runs/stored/metrics.jsonl"))]
    expected = json.loads((STORED / "losses.json").read_text())
    assert losses == (expected if ALIKE else pytest.approx(expected, rel=1e-3))
