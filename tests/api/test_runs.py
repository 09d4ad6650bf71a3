"""Training, sampling and measuring from Python: the same as by command, and refusals that say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import run_ddpm
from PIL import Image
from tiny_configs import TINY

import ddpm_cli
from ddpm_cli.results.events import Event

SMALL = TINY | {
    "model": {"num_classes": "auto"},
    "train": {"eval_every": 2},
    "sample": {"sampler.steps": 5},
    "schedule.timesteps": 50,
    "train.max_grad_norm": None,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "runs"


@pytest.fixture(scope="module")
def heard() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def run(runs: Path, heard: list[Event]) -> ddpm_cli.Run:
    """A run of four steps with classes; tests that change it go on with a copy."""
    return ddpm_cli.train(
        data="fashion-mnist-10k", set=SMALL, steps=4, batch_size=8, device="cpu", runs=runs, progress=False, on_event=heard.append
    )


def test_training_leaves_a_run_and_tells_of_each_step(run: ddpm_cli.Run, runs: Path, heard: list[Event]) -> None:
    assert run.path == runs / "default-001"
    assert run.summary is not None
    assert run.summary.step == 4
    steps = [event.step for event in heard if isinstance(event, ddpm_cli.events.TrainProgress)]
    assert steps == [1, 2, 3, 4]
    assert [row["step"] for row in run.history()] == [2, 4]
    assert run.history()[-1]["loss"] == run.summary.loss
    for picture in ("samples.png", "loss.png"):
        assert (run.path / picture).is_file()
    assert (
        "max_grad_norm" not in (run.path / "config.toml").read_text()
        or 'max_grad_norm = "none"' in (run.path / "config.toml").read_text()
    )
    assert ddpm_cli.find_run(runs=runs).name == "default-001"


def test_a_file_names_its_run_and_resume_extends_it(tmp_path: Path) -> None:
    file = tmp_path / "my recipe.toml"
    file.write_text('preset = "quick"\n[optimizer]\nlr = 1e-3\n')
    tiny = {**SMALL, "train.sampler.kind": "ddim", "model.attention_resolutions": []}
    run = ddpm_cli.train(
        file, data="fashion-mnist-10k", set=tiny, steps=2, batch_size=8, device="cpu", runs=tmp_path / "runs", progress=False
    )
    assert run.name == "my-recipe-001"
    again = ddpm_cli.resume(run.name, steps=4, set={"optimizer.lr": 1e-4}, runs=tmp_path / "runs", progress=False)
    assert again.summary is not None
    assert again.summary.step == 4
    assert "lr = 0.0001" in (run.path / "config.toml").read_text()
    assert ddpm_cli.resume(again, progress=False).summary is None


def test_samples_are_those_of_the_command(trained_folder: Path, tmp_path: Path) -> None:
    line = ("sample", "--seeds=5,3", "--sampler=ddim", "--steps=4", f"--out={tmp_path / 'grid.png'}", f"--each={tmp_path / 'each'}")
    done = run_ddpm(*line, cwd=trained_folder)
    assert done.returncode == 0, done.stderr
    model = ddpm_cli.load("tiny", runs=trained_folder / "runs", device="cpu")
    images = model.sample(seeds=[5, 3], sampler="ddim", steps=4)
    assert images.dtype == np.uint8
    assert images.shape == (2, 28, 28, 1)
    assert images.flags.c_contiguous
    for seed, image in zip((5, 3), images, strict=True):
        assert np.array_equal(image[..., 0], np.asarray(Image.open(tmp_path / "each" / f"{seed}.png")))
    assert np.array_equal(np.asarray(ddpm_cli.make_grid(images)), np.asarray(Image.open(tmp_path / "grid.png")))


def test_classes_by_name_and_number_and_the_way_out_of_noise(run: ddpm_cli.Run) -> None:
    model = ddpm_cli.load(run, device="cpu")
    assert model.class_names[8] == "Bag"
    by_name = model.sample(2, labels="bag", sampler="ddim", steps=3, guidance=3)
    assert np.array_equal(by_name, model.sample(2, labels=[8, "bag"], sampler="ddim", steps=3, guidance=3, batch_size=1))
    assert not np.array_equal(by_name, model.sample(2, labels=0, sampler="ddim", steps=3, guidance=3))
    way = model.trajectory(2, labels="bag", sampler="ddim", steps=3, guidance=3)
    assert way.shape == (3, 2, 28, 28, 1)
    assert np.array_equal(way[-1], by_name)


def test_a_run_may_not_ask_for_more_images_than_the_limits_whichever_method_draws(
    run: ddpm_cli.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ddpm_cli.load(run, device="cpu")
    many = {"sample.n": 20_000}
    for draw in (model.sample, model.trajectory):
        with pytest.raises(ddpm_cli.DdpmError, match="asks for 20,000 images"):
            draw(set=many)
    monkeypatch.setattr("ddpm_cli.api.model.shared_samples", lambda team, trained, seeds, *_, **__: pytest.fail(f"{len(seeds)}"))
    for draw in (model.sample, model.trajectory):
        with pytest.raises(pytest.fail.Exception, match="20000"):
            draw(set=many, no_limits=True)


def test_evaluate_gives_figures_and_keeps_them(run: ddpm_cli.Run, tmp_path: Path) -> None:
    heard: list[Event] = []
    first = ddpm_cli.evaluate(run, "loss-per-timestep", n=8, out=tmp_path, device="cpu", progress=False, on_event=heard.append)
    assert [figure.metric for figure in first] == ["loss-per-timestep"]
    assert len(first[0].rows) == 20
    assert (tmp_path / "loss-per-timestep.png").is_file()
    assert any(isinstance(event, ddpm_cli.events.EvaluateProgress) for event in heard)
    again = ddpm_cli.evaluate(run, ["loss-per-timestep"], n=8, out=tmp_path, device="cpu", progress=False)
    assert again[0].value == first[0].value


REFUSED: dict[str, tuple[Callable[[ddpm_cli.Run], object], str]] = {
    "preset": (lambda run: ddpm_cli.train("quik"), 'nearest of .* is "quick"'),
    "file": (lambda run: ddpm_cli.train("missing.toml"), "missing.toml: no such file"),
    "all faults": (lambda run: ddpm_cli.train(set={"a.b": 1}, epochs=-1), "(?s)2 faults.*train.epochs.*unknown section"),
    "twice": (lambda run: ddpm_cli.train(epochs=1, set={"train.epochs": 2}), "set twice: 1 and 2"),
    "data": (lambda run: ddpm_cli.train(data="nosuch"), "^data nosuch is no data set"),
    "device": (lambda run: ddpm_cli.train(device="tpu"), "tpu"),
    "run": (lambda run: ddpm_cli.load("nosuch", runs=run.path.parent), "There is no run 'nosuch'"),
    "found": (lambda run: ddpm_cli.find_run("nosuch", runs=run.path.parent), "There is no run 'nosuch'"),
    "resumed": (lambda run: ddpm_cli.resume(run, set={"model.stem": 1}), "cannot change in the middle of a run"),
    "class": (lambda run: sample(run, labels="bga"), 'The nearest is "Bag"'),
    "labels": (lambda run: sample(run, labels=[1]), "must be 2 labels in"),
    "no label": (lambda run: sample(run, labels=[1.5, 2]), "A label must be a whole number, not 1.5"),
    "truth as a label": (lambda run: sample(run, labels=True), "must be .*, not True"),
    "large label": (lambda run: sample(run, labels=np.int64(10)), "A label must be at most 9, not 10"),
    "foreign": (lambda run: sample(run, set={"train.seed": 1}), "train.seed in set belongs to training"),
    "steps": (lambda run: sample(run, steps=0), "sample.sampler.steps: must be at least 1"),
    "n": (lambda run: ddpm_cli.load(run, device="cpu").sample(0), "n must be at least 1, not 0"),
    "half n": (lambda run: ddpm_cli.load(run, device="cpu").sample(2.5), "n must be a whole number, not 2.5"),
    "large n": (lambda run: ddpm_cli.load(run, device="cpu").sample(10**12), "n must be at most 1,000,000"),
    "no seeds": (lambda run: ddpm_cli.load(run, device="cpu").sample(seeds=[]), "at least one image"),
    "half a seed": (lambda run: ddpm_cli.load(run, device="cpu").sample(seeds=[1.5]), "A seed must be a whole number, not 1.5"),
    "text for seeds": (lambda run: ddpm_cli.load(run, device="cpu").sample(seeds="12"), "seeds must be a list, not '12'"),
    "text for set": (lambda run: sample(run, set="a=b"), "set must map keys to values"),
    "runs": (lambda run: ddpm_cli.load("tiny", runs=3), "runs must be a path, not 3"),
    "no device": (lambda run: ddpm_cli.load(run, device=3), "device must be a text, not 3"),
    "seeds": (lambda run: ddpm_cli.load(run, device="cpu").sample(seeds=[-1]), "A seed must be at least 0, not -1"),
    "both": (lambda run: sample(run, seeds=[1]), "n has no place beside it"),
    "metric": (lambda run: ddpm_cli.evaluate(run, "fidd"), "There is no metric 'fidd'"),
    "samples": (lambda run: ddpm_cli.evaluate(run, n=0, device="cpu", progress=False), "n must be at least 1"),
    "seed": (lambda run: ddpm_cli.evaluate(run, seed=2**32), "below 2"),
}


def sample(run: ddpm_cli.Run, **arguments: object) -> object:
    return ddpm_cli.load(run, device="cpu").sample(2, **arguments)


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_with_its_reason(
    name: str, run: ddpm_cli.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request, reason = REFUSED[name]
    with pytest.raises(ddpm_cli.DdpmError, match=reason):
        request(run)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_classes_takes_no_labels(trained_folder: Path) -> None:
    model = ddpm_cli.load(trained_folder / "runs" / "tiny", device="cpu")
    assert model.class_names == ()
    with pytest.raises(ddpm_cli.DdpmError, match="without class labels"):
        model.sample(1, labels=3)
