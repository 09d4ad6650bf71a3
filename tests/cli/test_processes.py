"""`torchrun -m ddpm_cli ...`: several processes do what one does, and end together when one of them dies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Ddpm, run_ddpm
from launched import ARGUMENTS, killing, largest_difference, torchrun, two_processes
from picture_files import pixels
from safetensors.numpy import load_file
from tiny_configs import DIT, NETWORK, TINY, as_options

# With noise that is handed out over the whole batch, and a weighting that is learned of all its losses.
OF_THE_WHOLE_BATCH = ("--set=objective.coupling=optimal-transport", "--set=objective.weighting=learned")
TRAIN = (
    *("train", *ARGUMENTS, "--steps=12", "--name=run", "--set=checkpoint.every=4", "--set=ema.widths=[0.05,0.1]"),
    *OF_THE_WHOLE_BATCH,
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("one")
    done = run_ddpm(*TRAIN, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "run"


def shapes(run: Path) -> dict[str, tuple[int, ...]]:
    """Of the moments of a run's last checkpoint."""
    return {name: moment.shape for name, moment in load_file(run / "checkpoints/step-00000012/optimizer.safetensors").items()}


def averages(run: Path) -> np.ndarray:
    """All weights of the power-function averages of the last checkpoint, and of the last snapshot."""
    files = (run / "checkpoints/step-00000012/averages.safetensors", run / "averages/step-00000011.safetensors")
    return np.concatenate([tensor.flatten() for file in files for _, tensor in sorted(load_file(file).items())])


def test_a_killed_process_is_named_and_the_launcher_goes_on_with_the_run(one: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "runs/run/checkpoints/step-00000004"
    variables = killing(1, checkpoint, tmp_path / "site")
    done = torchrun(*TRAIN, cwd=tmp_path, options=["--max-restarts=1"], **variables)
    assert done.returncode == 0, done.stderr
    flat = " ".join(done.stderr.split())
    assert "Process 1 of 2 on" in flat
    assert "has ended, and without it the others cannot go on" in flat
    assert "goes on: from step 4" in flat
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    assert largest_difference(one, tmp_path / "runs/run") < 1e-5


def test_a_model_spread_over_two_processes_learns_the_same_and_goes_on_in_one(one: Path, tmp_path: Path, ddpm: Ddpm) -> None:
    done = two_processes(*TRAIN, "--set=train.sharding=full", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/run"
    assert largest_difference(one, run) < 1e-5
    assert shapes(run) == shapes(one)
    assert np.abs(averages(run) - averages(one)).max() < 1e-4
    shutil.rmtree(run / "checkpoints/step-00000012")
    resumed = ddpm("resume", "run")
    assert resumed.returncode == 0, resumed.stderr
    assert "no effect on one process" in resumed.stderr
    assert "from step 8" in resumed.stderr
    assert largest_difference(one, run) < 1e-5
    assert np.abs(averages(run) - averages(one)).max() < 1e-4


def test_a_transformer_spread_over_two_processes_learns_the_same(tmp_path: Path, ddpm: Ddpm) -> None:
    settings = {key: value for key, value in TINY.items() if key not in NETWORK} | DIT | {"train.log_every": 1, "data.limit": 40}
    train = ("train", *as_options(settings), "--steps=4", "--name=run", "--device=cpu", "--set=optimizer.kind=muon")
    assert ddpm(*train).returncode == 0
    (tmp_path / "two").mkdir()
    done = torchrun(*train, "--set=train.sharding=full", cwd=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "runs/run", tmp_path / "two/runs/run") < 1e-4


def test_muon_moves_matrices_that_are_spread_as_it_moves_whole_ones(tmp_path: Path, ddpm: Ddpm) -> None:
    muon = ("--set=optimizer.kind=muon",)
    (tmp_path / "two").mkdir()
    assert ddpm(*TRAIN, *muon).returncode == 0
    done = two_processes(*TRAIN, *muon, "--set=train.sharding=full", cwd=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "runs/run", tmp_path / "two/runs/run") < 1e-4
    assert shapes(tmp_path / "two/runs/run") == shapes(tmp_path / "runs/run")


def test_two_processes_draw_the_grid_of_one(one: Path, tmp_path: Path, ddpm: Ddpm) -> None:
    command = ("sample", str(one), "-n", "3", "--sampler=ddim", "--steps=3", "--device=cpu")
    assert ddpm(*command, "--out=one.png", "--trajectory=one.gif").returncode == 0
    done = two_processes(*command, "--out=two.png", "--trajectory=two.gif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote: two.png") == 1
    for kind in ("png", "gif"):
        first, second = (pixels(tmp_path / f"{name}.{kind}") for name in ("one", "two"))
        assert np.abs(first - second).max() <= 1  # other batches may round otherwise


def test_a_bad_request_is_told_once(tmp_path: Path) -> None:
    done = torchrun("train", "--set=model.foo=1", cwd=tmp_path)
    assert done.returncode == 1  # torchrun's own
    assert done.stderr.count("error: model.foo: unknown key") == 1
    assert "error of process" not in done.stderr
