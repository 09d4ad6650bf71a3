"""A run of flow matching, from the command line to its samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import TINY, Ddpm, assert_refused
from tiny_configs import tiny_config

from ddpm_cli.config.schema.sample import SampleConfig
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.training.train import resume, train

FLOW = ("--set=schedule.kind=flow", "--set=objective.parameterization.kind=flow")


def test_train_resume_and_sample_from_the_command_line(ddpm: Ddpm, tmp_path: Path) -> None:
    done = ddpm("train", *TINY, *FLOW, "--set=schedule.shift=resolution", "--steps=2", "--device=cpu", "--name=flow", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = ddpm("resume", "flow", "--steps=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = ddpm("sample", "flow", "--n=2", "--sampler=heun", "--steps=3", "--out=grid.png", "--device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "grid.png").is_file()
    shown = json.loads(ddpm("inspect-schedule", "flow", "--json", cwd=tmp_path).stdout)
    assert (shown["kind"], shown["timesteps"], shown["alpha"][-1], shown["sigma"][-1]) == ("flow", 1000, 0.0, 1.0)
    # 28 of 64 pixels: sigma / alpha is t / (1 - t) times that.
    ratio = shown["sigma"][499] / shown["alpha"][499]
    assert ratio == pytest.approx(28 / 64)


@pytest.mark.parametrize("kind", ["flow", "trig-flow"])
def test_resuming_gives_the_bits_of_a_run_that_never_stopped(tmp_path: Path, kind: str) -> None:
    config = tiny_config("train.steps=4", f"schedule.kind={kind}", "objective.parameterization=flow", "checkpoint.every=2")
    train(config, runs=tmp_path, name="whole")
    half = config.model_copy(update={"train": config.train.model_copy(update={"steps": 2})})
    train(half, runs=tmp_path, name="half")
    resume(tmp_path / "half", budget={"steps": 4})
    whole, again = (load_trained(tmp_path / name, torch.device("cpu")) for name in ("whole", "half"))
    for one, other in zip(whole.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    settings = SampleConfig.model_validate({"sampler": {"kind": "unipc", "steps": 3}})
    drawn = [torch.cat(list(generate_samples(model, [0, 1], settings=settings))) for model in (whole, again)]
    assert torch.equal(*drawn)
    assert drawn[0].isfinite().all()


def test_what_a_path_does_not_go_with_is_refused(ddpm: Ddpm, tmp_path: Path) -> None:
    for sets, words in (
        (("--set=schedule=flow",), ["zero terminal SNR", '"flow"']),
        ((*FLOW, "--set=objective.loss=vlb"), ["of betas", "objective.loss = simple"]),
    ):
        done = ddpm("train", *TINY, *sets, "--steps=2", "--device=cpu", cwd=tmp_path)
        assert_refused(done, *words)
        assert not (tmp_path / "runs").exists()
