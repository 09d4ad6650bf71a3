"""The folder `examples/speedrun/`: files of samples are measured as `ddpm evaluate` measures ours, and its page says what is so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT
from trained_models import trained_model

import ddpm_cli
from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.evaluation.evaluate import evaluate
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.experiments.speedrun_file import CLOCKS
from ddpm_cli.sampling.generate import generate_samples

SPEEDRUN = ROOT / "examples" / "speedrun"
TEN_K = "fashion-mnist-10k"
DDIM = ("sample.sampler.kind=ddim", "sample.sampler.steps=2")


def measured(*arguments: str | Path) -> list[dict[str, object]]:
    command = [sys.executable, str(SPEEDRUN / "peers" / "measure.py"), f"--data={TEN_K}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_of_our_samples_has_the_figure_of_our_model(tmp_path: Path) -> None:
    trained = trained_model(f"data={TEN_K}", "model.stem=2", *DDIM, shape=(1, 28, 28))
    (images,) = generate_samples(trained, range(50))
    pixels = images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "ours.npz", arr_0=pixels, facts=json.dumps({"steps": 7}))
    np.savez(tmp_path / "colour.npz", arr_0=np.repeat(np.repeat(np.repeat(pixels, 3, 3), 2, 1), 2, 2))
    (figure,) = evaluate(trained, build_dataset(load_config(sets=[f"data={TEN_K}"]).config.data), ["fcd"], EvaluateSettings(n=50))
    ours, colour = measured(tmp_path / "ours.npz", tmp_path / "colour.npz")
    assert (ours["n"], ours["steps"]) == (50, 7)
    assert ours["fcd"] == pytest.approx(figure.value, abs=2e-3)
    assert colour["fcd"] == pytest.approx(figure.value, rel=0.1)  # twice the size and back


def test_real_images_are_closer_than_noise(tmp_path: Path) -> None:
    real = ddpm_cli.load_images(TEN_K, n=300, split="test").images
    np.savez(tmp_path / "real.npz", arr_0=real)
    np.savez(tmp_path / "noise.npz", arr_0=np.random.default_rng(0).integers(0, 256, real.shape, np.uint8))
    near, far = measured(tmp_path / "real.npz", tmp_path / "noise.npz", "--n=200")
    assert near["n"] == far["n"] == 200
    assert 10 * float(str(near["fcd"])) < float(str(far["fcd"]))


def test_the_readme_lists_every_clock_and_record() -> None:
    text = (SPEEDRUN / "README.md").read_text()
    for clock in CLOCKS.values():
        assert f"| `{clock.name}` | {clock.minutes:g} minutes |" in text
        assert f"`{clock.metric}`" in text
        assert f"| {clock.n:,} |" in text
        assert f"{clock.most_evaluations} evaluations" in text
    assert {file.name for file in SPEEDRUN.glob("*.toml")} == {part.split("]")[0] for part in text.split("| [")[1:]}
