"""`ddpm tune-sampler`, and the commands that take what it found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import Ddpm, assert_refused

import ddpm_cli
from ddpm_cli.cli.app import run as run_command
from ddpm_cli.runs.figures import read_figures
from ddpm_cli.runs.run_directory import RunDirectory

FEW = ("--n=4", "--device=cpu")


@pytest.fixture(scope="session")
def tuned_folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was tuned for 2 and 4 steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(trained_folder / "runs", folder / "runs")
    ddpm_cli.tune_sampler(folder / "runs" / "tiny", [2, 4], n=4, device="cpu", progress=False)
    return folder


@pytest.fixture
def tuned(tuned_folder: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    shutil.copytree(tuned_folder / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "tiny"


def stored(run: Path) -> dict[int, dict[str, object]]:
    """The tuned samplers by their number of steps."""
    return {found["steps"]: found for found in json.loads((run / "tuned.json").read_text())["samplers"]}


def test_it_prints_one_json_object_that_is_what_it_keeps(ddpm_here: Ddpm, trained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    done = ddpm_here("tune-sampler", "tiny", "--steps=3,2", *FEW, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    run = tmp_path / "runs" / "tiny"
    assert {key: told.pop(key) for key in ("model", "file")} == {
        "model": "runs/tiny/checkpoints/step-00000006",
        "file": "runs/tiny/tuned.json",
    }
    assert told == json.loads((run / "tuned.json").read_text())
    assert (told["step"], told["ema"], told["images"], told["held_out"]) == (6, True, 4, 8)
    assert [found["steps"] for found in told["samplers"]] == [2, 3]
    for found in told["samplers"]:
        timesteps = found["sampler"]["spacing"]["timesteps"]
        assert (len(timesteps), timesteps[0]) == (found["steps"], 49)
        assert found["untuned"] == {
            "kind": "dpm-solver++",
            "steps": found["steps"],
            "spacing": {"kind": "trailing"},
            "order": 2,
            "sde": False,
        }
        assert 0 < found["distance"] < found["untuned_distance"]
    assert "kept in: runs/tiny/tuned.json" in done.stderr


def test_it_is_the_same_again_by_its_seed_and_shows_a_table(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    before = stored(tuned)
    done = ddpm_here("tune-sampler", "tiny", "--steps=2", *FEW)
    assert done.returncode == 0, done.stderr
    assert stored(tuned) == before
    flat = " ".join(done.stdout.split())
    assert "samplers tuned for step 6 (EMA weights), distance of 8 other images" in flat
    assert f"{before[2]['distance']:.4f} dpm-solver++ 2, trailing {before[2]['untuned_distance']:.4f} 49 " in flat
    assert ddpm_here("tune-sampler", "tiny", "--steps=2", "--seed=1", *FEW).returncode == 0
    assert list(stored(tuned)) == [2]  # a search of its own
    assert stored(tuned) != before


def test_sample_takes_it_and_draws_what_the_list_draws(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    found = stored(tuned)[4]["sampler"]
    assert isinstance(found, dict)
    done = ddpm_here("sample", "tiny", "--sampler=Tuned", "--steps=4", "--n=2", "--out=tuned.png", "--json")
    assert done.returncode == 0, done.stderr
    assert "note" not in done.stderr
    told = json.loads(done.stdout)["sampler"]
    assert (told["kind"], told["spacing"]["timesteps"], told["evaluations"]) == (found["kind"], found["spacing"]["timesteps"], 4)
    options = [f"--set=sample.sampler.{key}={value}" for key, value in found.items() if key not in ("kind", "spacing")]
    listed = f"--set=sample.timesteps={found['spacing']['timesteps']}"
    plain = ddpm_here("sample", "tiny", f"--sampler={found['kind']}", listed, *options, "--n=2", "--out=plain.png")
    assert plain.returncode == 0, plain.stderr
    assert (tmp_path / "tuned.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    most = ddpm_here("sample", "tiny", "--sampler=tuned", "--n=2", "--out=most.png")
    assert most.returncode == 0, most.stderr
    assert (tmp_path / "most.png").read_bytes() == (tmp_path / "tuned.png").read_bytes()


def test_evaluate_measures_with_it_and_says_with_which_steps(ddpm_here: Ddpm, tuned: Path) -> None:
    done = ddpm_here("evaluate", "tiny", "--sampler=tuned", "--steps=2", "--n=4", "--device=cpu")
    assert done.returncode == 0, done.stderr
    (figure,) = read_figures(RunDirectory(tuned))
    found = stored(tuned)[2]["sampler"]
    assert isinstance(found, dict)
    assert figure.figure.details["sampler"] == found["kind"]
    assert str(found["spacing"]["timesteps"]) in str(figure.figure.details["sampler_options"])


def test_python_takes_it_and_an_exported_file_holds_it(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    images = ddpm_cli.load(tuned, device="cpu").sample(2, sampler="tuned", steps=2, progress=False)
    plain = ddpm_cli.load(tuned, device="cpu").sample(2, steps=2, progress=False)
    assert not np.array_equal(images, plain)
    file = tmp_path / "model.safetensors"
    ddpm_cli.export(tuned, out=file)
    (tuned / "tuned.json").unlink()
    assert np.array_equal(ddpm_cli.load(file, device="cpu").sample(2, sampler="tuned", steps=2, progress=False), images)
    done = ddpm_here("info", str(file), "--json")
    assert [found["steps"] for found in json.loads(done.stdout)["tuning"]["samplers"]] == [2, 4]


def test_an_exported_file_can_have_it_as_its_own(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    done = ddpm_here("export", "tiny", "--tuned=4", "--out=fast.safetensors", "--json")
    assert done.returncode == 0, done.stderr
    own = ddpm_cli.load(tmp_path / "fast.safetensors", device="cpu").sample(2, progress=False)
    assert np.array_equal(own, ddpm_cli.load(tuned, device="cpu").sample(2, sampler="tuned", steps=4, progress=False))
    assert_refused(ddpm_here("export", "tiny", "--tuned=3", "--out=m.safetensors"), "No sampler of 3 steps", "(--tuned)")
    assert_refused(
        ddpm_here("export", "tiny", "--tuned=4", "--format=onnx", "--out=m.onnx"), "--tuned is for the format safetensors"
    )
    with pytest.raises(ddpm_cli.DdpmError, match="tuned must be at least 1"):
        ddpm_cli.export(tuned, out=tmp_path / "m.safetensors", tuned=0)


def test_an_edit_takes_it_where_its_sampler_is_free(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    ddpm_here("sample", "tiny", "--n=1", "--steps=2", "--each=images", "--out=grid.png")
    image = str(tmp_path / "images" / "0.png")
    done = ddpm_here("img2img", image, "--run=tiny", "--sampler=tuned", "--steps=4", "--n=1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sampler"]["spacing"]["kind"] == "list"


def trained_on(run: Path) -> None:
    """The run goes on, from step 6 to 8."""
    assert run_command(["resume", str(run), "--steps=8"], debug=False) == 0


def test_after_further_training_it_works_and_is_told_as_stale(ddpm_here: Ddpm, tuned: Path) -> None:
    fresh = ddpm_here("info", "tiny")
    assert "stale" not in fresh.stdout
    trained_on(tuned)
    done = ddpm_here("sample", "tiny", "--sampler=tuned", "--n=2")
    assert done.returncode == 0, done.stderr
    words = "tuned for the averaged weights of step 6, and these are the averaged weights of step 8"
    assert words in " ".join(done.stderr.split())
    info = ddpm_here("info", "tiny")
    assert "samplers tuned for step 6 (EMA weights)" in info.stdout
    assert f"stale: the samplers were {words}." in " ".join(info.stdout.split())
    told = json.loads(ddpm_here("info", "tiny", "--json").stdout)
    assert told["tuned_for_others"] == words
    assert ddpm_here("tune-sampler", "tiny", "--steps=2", *FEW).returncode == 0
    assert json.loads(ddpm_here("info", "tiny", "--json").stdout)["tuned_for_others"] == ""
    assert list(stored(tuned)) == [2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--no-ema",), "tuned for the averaged weights of step 6, and these are the last weights of step 6"),
        (("--set=sample.threshold=none",), "tuned with another threshold (sample.threshold)"),
    ],
)
def test_other_weights_and_settings_are_told(ddpm_here: Ddpm, tuned: Path, arguments: tuple[str, ...], words: str) -> None:
    done = ddpm_here("sample", "tiny", "--sampler=tuned", "--n=1", *arguments)
    assert done.returncode == 0, done.stderr
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps=",), ("--steps '' is no list of whole numbers", "--steps 5,8,10")),
        (("--steps=5,x",), ("is no list of whole numbers",)),
        (("--steps=1",), ("--steps 1 must be from 2 to 50",)),
        (("--steps=4,51",), ("--steps 51 must be from 2 to 50",)),
        (("--n=0",), ("--n 0 must be from 1 to 10,000",)),
        (("--seed=-1",), ("--seed -1 must be from 0",)),
        (("--device=abacus",), ("abacus",)),
        (("--set=train.steps=4",), ("belongs to training",)),
        (("--guidance=2",), ("needs a model that was trained with classes",)),
        (("nowhere",), ("There is no run 'nowhere'",)),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    ddpm_here: Ddpm, tuned: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = (tuned / "tuned.json").read_bytes()
    assert_refused(ddpm_here("tune-sampler", *arguments), *words)
    assert (tuned / "tuned.json").read_bytes() == before


def test_what_is_replaced_is_told(ddpm_here: Ddpm, tuned: Path) -> None:
    done = ddpm_here("tune-sampler", "tiny", "--steps=3", "--n=5", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert "What was tuned before for 2, 4 steps is gone" in " ".join(done.stderr.split())
    assert sorted(stored(tuned)) == [3]


def remove_it(run: Path) -> list[str]:
    (run / "tuned.json").unlink()
    return ["sample", "tiny", "--sampler=tuned"]


def damage_it(run: Path) -> list[str]:
    (run / "tuned.json").write_text('{"samplers": 3}')
    return ["sample", "tiny", "--sampler=tuned"]


def go_beyond_the_schedule(run: Path) -> list[str]:
    text = (run / "tuned.json").read_text()
    (run / "tuned.json").write_text(re.sub(r"(\"timesteps\": \[\s+)49", r"\g<1>9999", text))
    return ["sample", "tiny", "--sampler=tuned"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda run: ["sample", "tiny", "--sampler=tuned", "--steps=3"], ("No sampler of 3 steps was tuned", "Take one of 2, 4")),
        (lambda run: ["evaluate", "tiny", "--sampler=tuned", "--steps=9", "--n=2"], ("No sampler of 9 steps", "--steps 9")),
        (lambda run: ["sample", "tiny", "--sampler=tuned", "--steps=3"], ("ddpm tune-sampler runs/tiny", "--steps 3")),
        (
            lambda run: ["sample", "tiny", "--sampler=tuned", "--set=sample.sampler.steps=2"],
            ('sample.sampler.steps has no place beside the sampler "tuned"', "--steps chooses"),
        ),
        (lambda run: ["sample", "tiny", "--sampler=tuned", "--set=sample.timesteps=[9, 5]"], ("sample.timesteps has no place",)),
        (remove_it, ("No sampler was tuned for runs/tiny", "ddpm tune-sampler")),
        (damage_it, ("runs/tiny/tuned.json holds no tuned samplers", "Tune the run again: ddpm tune-sampler runs/tiny")),
        (go_beyond_the_schedule, ("begins above schedule.timesteps - 1 (49)",)),
        (lambda run: ["interpolate", "1", "2", "--run=tiny", "--set=sample.sampler=tuned"], ("tuned",)),
    ],
)
def test_one_that_is_not_there_is_refused(
    ddpm_here: Ddpm, tuned: Path, make: Callable[[Path], list[str]], words: tuple[str, ...]
) -> None:
    assert_refused(ddpm_here(*make(tuned)), *words)


def test_a_damaged_file_harms_nothing_that_does_not_ask_for_it(ddpm_here: Ddpm, tuned: Path) -> None:
    (tuned / "tuned.json").write_text("[")
    assert ddpm_here("sample", "tiny", "--n=1", "--steps=2").returncode == 0
    assert ddpm_here("export", "tiny", "--out=model.safetensors").returncode == 0
    assert_refused(ddpm_here("sample", "model.safetensors", "--sampler=tuned"), "No sampler was tuned", "export that again")
    done = ddpm_here("info", "tiny", "--json")
    assert done.returncode == 0
    assert "tuned.json" in json.loads(done.stdout)["tuning_fault"]
    assert json.loads(done.stdout)["faults"] == []


def test_an_exported_file_is_not_tuned_but_the_run_is(ddpm_here: Ddpm, tuned: Path, tmp_path: Path) -> None:
    ddpm_cli.export(tuned, out=tmp_path / "model.safetensors")
    assert_refused(ddpm_here("tune-sampler", "model.safetensors"), "belongs to no run", "Name a run")
