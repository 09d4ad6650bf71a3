"""Schedules that come from a file or from training, from the command line to the samples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import TINY, Ddpm, assert_refused, environment, run_ddpm
from tiny_configs import tiny_config

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.errors import CheckpointError, ConfigError
from ddpm_cli.interop.export import export_model
from ddpm_cli.runs.model_file import load_model_file, save_model_file
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.stored_schedule import stored_schedule
from ddpm_cli.training.train import resume, train

BETAS = (np.linspace(1e-4, 0.018, 20) * 50).tolist()
ABAR = np.cumprod(1 - np.array(BETAS)).tolist()


def csv_of(name: str, values: list[Any]) -> str:
    return "\n".join([f"t,{name}", *(f"{t},{value}" for t, value in enumerate(values))])


def inspect_table(ddpm: Ddpm, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "table").write_text(text)
    return ddpm("inspect-schedule", "--kind", "table", "--timesteps", "20", "--set", "path=table", "--json", cwd=folder)


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_what_inspect_schedule_writes_is_a_table(ddpm: Ddpm, tmp_path: Path, form: str) -> None:
    text = ddpm("inspect-schedule", "--kind", "linear", "--timesteps", "20", "--set", "beta_end=0.018", form).stdout
    assert json.loads(inspect_table(ddpm, tmp_path, text).stdout)["betas"] == pytest.approx(BETAS, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (csv_of("alpha_bar", [*ABAR[:7], 0.9, *ABAR[8:]]), ["table:", "alpha_bar must fall", "to 0.9"]),
        (csv_of("beta", [*BETAS[:3], "nan", *BETAS[4:]]), ["'nan' at t = 3"]),
        (csv_of("beta", BETAS[:7]), ["table has 7 values, but schedule.timesteps is 20", "schedule.timesteps = 7"]),
        ("[" * 100_000_000, ["is larger than 10,000,000 bytes"]),
    ],
    ids=["not monotone", "NaN", "wrong length", "1e8 levels of JSON"],
)
def test_a_table_that_makes_no_schedule_is_refused(ddpm: Ddpm, tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(inspect_table(ddpm, tmp_path, text), *words)
    (tmp_path / "table").unlink()


def test_an_absent_table_and_two_sources_are_refused(ddpm: Ddpm) -> None:
    assert_refused(ddpm("inspect-schedule", "--kind", "table", "--set", "path=absent.csv"), "absent.csv is missing")
    both = ("--set", "path=absent.csv", "--set", "betas=[0.1]")
    assert_refused(ddpm("inspect-schedule", "--kind", "table", *both), "path and betas exclude each other")


def test_training_refuses_zero_terminal_snr_with_eps_before_it_writes_anything(ddpm: Ddpm, tmp_path: Path) -> None:
    done = ddpm("train", *TINY, "--steps=2", "--set=schedule.zero_terminal_snr=true")
    assert_refused(done, "zero terminal SNR", 'objective.parameterization = "v"')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["parameterization=edm", "variance=learned-range"])
def test_a_learned_schedule_refuses_what_it_cannot_train_with(setting: str) -> None:
    sets = ["schedule.kind=learned", "objective.loss=vlb", f"objective.{setting}"]
    with pytest.raises(ConfigError, match='the schedule "learned" needs') as caught:
        load_config(sets=sets)
    assert f'"{setting.partition("=")[2]}"' in caught.value.message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A learned run, its export, and a run from a table, whose file is gone."""
    folder = tmp_path_factory.mktemp("schedules")
    table = folder / "table.csv"
    table.write_text(csv_of("alpha_bar", ABAR))
    tiny = ("train.steps=4", "schedule.timesteps=20")
    learned = ["schedule.kind=learned", "schedule.endpoint_range=1"]
    from_table = ["schedule.kind=table", f"schedule.path={table}", "schedule.logsnr_shift=-1"]
    for name, sets in (("learned", learned), ("table", from_table)):
        train(tiny_config(*tiny, *sets), runs=folder / "runs", name=name)
    table.unlink()
    export_model(folder / "runs" / "learned", "safetensors", folder / "model.safetensors")
    return folder


def test_a_learned_schedule_is_drawn_as_trained_from_run_checkpoint_and_export(folder: Path) -> None:
    config, trained = stored_schedule(folder / "runs" / "learned")
    assert np.abs(trained.half_logsnr - build_schedule(config).half_logsnr).max() > 1e-3
    for path in ("runs/learned/checkpoints/step-00000004", "model.safetensors"):
        assert np.array_equal(stored_schedule(folder / path)[1].betas, trained.betas)

    done = run_ddpm("inspect-schedule", "learned", "--compare", "linear", "--json", cwd=folder)
    learned, linear = json.loads(done.stdout)["schedules"]
    assert (learned["kind"], linear["kind"], linear["timesteps"]) == ("learned", "linear", 20)
    assert learned["betas"] == trained.betas.tolist()


def test_a_learned_schedule_is_sampled_from_run_and_export_alike(folder: Path) -> None:
    pictures = []
    for model in ("learned", "model.safetensors"):
        done = run_ddpm("sample", model, "--n=2", "--sampler=ddim", "--steps=5", f"--out={model}.png", "--device=cpu", cwd=folder)
        assert done.returncode == 0, done.stderr
        pictures.append((folder / f"{model}.png").read_bytes())
    assert pictures[0] == pictures[1]
    trained = load_trained(folder / "model.safetensors", torch.device("cpu"))
    assert np.array_equal(trained.schedule.betas, stored_schedule(folder / "runs" / "learned")[1].betas)


def test_a_table_lives_on_in_its_run_without_torch(folder: Path) -> None:
    code = "import sys; from ddpm_cli.cli.app import run; run(sys.argv[1:], False); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "inspect-schedule", "table", "--json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=True)
    text, _, torch_was_imported = done.stdout.strip().rpartition("\n")
    assert torch_was_imported == "False"
    shifted = np.array(ABAR) / (np.array(ABAR) + (1 - np.array(ABAR)) * np.e)
    np.testing.assert_allclose(json.loads(text)["alphas_cumprod"], shifted, rtol=1e-9)

    copy = shutil.copytree(folder / "runs" / "table", folder / "copies" / "table")
    assert resume(copy, budget={"steps": 6}) is not None
    trained = load_trained(copy, torch.device("cpu"))
    np.testing.assert_allclose(trained.schedule.alphas_cumprod, shifted, rtol=1e-9)
    assert len(torch.cat(list(generate_samples(trained, [0])))) == 1


def test_a_learned_checkpoint_or_file_without_its_schedule_is_refused(folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step-00000004"
    shutil.copytree(folder / "runs" / "learned" / "checkpoints" / "step-00000004", checkpoint)
    content = json.loads((checkpoint / "manifest.json").read_text())
    del content["files"]["schedule.safetensors"]
    (checkpoint / "manifest.json").write_text(json.dumps(content))
    for read in (stored_schedule, lambda path: load_trained(path, torch.device("cpu"))):
        with pytest.raises(CheckpointError, match="has no schedule tensors"):
            read(checkpoint)

    weights, metadata = load_model_file(folder / "model.safetensors")
    save_model_file(tmp_path / "bare", {k: v for k, v in weights.items() if not k.startswith("schedule.")}, metadata)
    with pytest.raises(CheckpointError, match="is missing"):
        load_trained(tmp_path / "bare", torch.device("cpu"))
