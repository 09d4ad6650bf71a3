from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, Ddpm, assert_refused, run_ddpm
from launched import two_processes

LIKELIHOODS = "--metrics=bits-per-dim,nll-ode"
QUICK = ("--sampler=ddim", "--steps=2", "-n", "12", "--batch-size=4")  # torchrun takes --n for one of its own


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the features of references stay from one test to the next."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_CACHE", str(folder))
        yield folder


@pytest.fixture
def tiny(trained_folder: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the trained run, because evaluating adds to it."""
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    return tmp_path


def test_evaluate_prints_one_json_object_with_its_terms(ddpm: Ddpm, tiny: Path) -> None:
    done = ddpm("evaluate", LIKELIHOODS, "--n=6", "--likelihood-steps=5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["step"] == 6
    bound, ode = result["figures"]
    assert [bound["metric"], ode["metric"]] == ["bits-per-dim", "nll-ode"]
    assert bound["value"] == pytest.approx(sum(bound["terms"].values()))
    assert (bound["n"], bound["split"], bound["seed"], bound["data"]) == (6, "test", 0, "fashion-mnist-10k")
    threshold = {"threshold": "clamp", "threshold_options": "{}"}
    assert bound["details"] == {"variance": "fixed-small", "evaluations": 5, "timesteps": 50} | threshold
    assert len(bound["sha256"]) == 64
    assert "tiny" in done.stderr


def test_evaluate_prints_likelihoods_for_people(ddpm: Ddpm, tiny: Path) -> None:
    done = ddpm("evaluate", "tiny", "-m", "bits-per-dim", "--n=2", "--likelihood-steps=2", "--variance=fixed-large")
    assert done.returncode == 0, done.stderr
    for words in ("bits-per-dim", "prior", "decoder", "fixed-large", "2 of fashion-mnist-10k (test)", "seed 0"):
        assert words in done.stdout


def test_evaluate_prints_metrics_of_samples_for_people_and_keeps_them(ddpm: Ddpm, tiny: Path) -> None:
    command = ("evaluate", "tiny", "--metrics=fcd,nearest,loss-per-timestep", *QUICK, "--repeats=2")
    done = ddpm(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line and not line.startswith(" ")] == ["fcd", "nearest", "loss-per-timestep"]
    flat = " ".join(done.stdout.split())
    words = ["standard deviation over 2 sets of samples", "floor", "the same of 12 real images", "samples 2 sets of 12, seed 0"]
    words += ["reference 10,000 images of fashion-mnist-10k (train), sha256 ", "extractor fashion-mnist-classifier-v1, sha256 "]
    words += ["sampler ddim, 2 steps (2 evaluations an image), guidance 1, threshold clamp", "n = 12 is small (below 2,000)"]
    words += ["of new images 0.1 % would", "false alarm rate 0.001", "t 0-1"]
    assert [word for word in words if word not in flat] == []
    evaluations = tiny / "runs" / "tiny" / "evaluations"
    assert {path.name for path in evaluations.iterdir()} == {"figures.jsonl", "nearest.png", "loss-per-timestep.png", "lock"}
    again = ddpm(*command)
    assert again.stdout == done.stdout
    assert "measured before with the same settings" in " ".join(again.stderr.split())
    assert len((evaluations / "figures.jsonl").read_text().splitlines()) == 3


def test_two_processes_give_what_one_gives(tiny: Path) -> None:
    def figures(start: Ddpm, out: str) -> list[dict[str, object]]:
        done = start("evaluate", "tiny", *QUICK, "--device=cpu", f"--out={out}", "--json", cwd=tiny)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["figures"]
        return found

    two = figures(two_processes, "two")
    assert two == figures(run_ddpm, "one")
    assert two[0]["n"] == 12


def test_an_exported_file_leaves_nothing_behind(ddpm: Ddpm, tiny: Path, cache: Path) -> None:
    assert ddpm("export", "tiny", "--out=model.safetensors").returncode == 0
    shutil.rmtree(tiny / "runs")
    done = ddpm("evaluate", "model.safetensors", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    assert [figure["metric"] for figure in json.loads(done.stdout)["figures"]] == ["fcd"]
    assert {path.name for path in tiny.iterdir()} == {"model.safetensors"}
    assert not list(cache.rglob("part-*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metrics=fidd"], ["no metric 'fidd'", "fid, kid, inception-score, precision-recall, fcd, nearest, bits-per-dim"]),
        (["--metrics=bits-per-dim", "--likelihood-steps=51"], ["2 to 50 steps", "51", "--likelihood-steps"]),
        (["--metrics=bits-per-dim", "--steps=5"], ["--steps has no effect on bits-per-dim", "--likelihood-steps of likelihoods"]),
        (["--metrics=bits-per-dim", "--variance=learned-range", "--n=1"], ["did not learn its variance"]),
        (["--n=0"], ["--n must be at least 1"]),
        (["--n=1000000000000"], ["bytes of disk", "bytes free", "Lower --n"]),
        (["--reference=valid"], ["no --reference valid", "train, test"]),
        (["--set=train.seed=1"], ["belongs to training"]),
        (["--metrics=fid", "--extractor-weights=runs/tiny/checkpoints/step-00000006/ema.safetensors"], ["ema.safetensors"]),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(ddpm: Ddpm, tiny: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(ddpm("evaluate", *arguments), *words)
    assert not (tiny / "runs" / "tiny" / "evaluations").exists() or arguments[0] == "--metrics=bits-per-dim"


def test_learned_variance_trains_and_is_measured_and_sampled_by_the_command(ddpm: Ddpm, tmp_path: Path) -> None:
    sets = [
        "objective.loss=hybrid",
        "objective.timesteps=loss-aware",
        "schedule.timesteps=20",
        "sample.sampler.variance=learned-range",
    ]
    done = ddpm("train", *TINY, "--steps=3", "--name=hybrid", *(f"--set={item}" for item in sets))
    assert done.returncode == 0, done.stderr
    assert "hybrid loss" in done.stderr + done.stdout
    assert ddpm("sample", "hybrid", "--n=2", "--steps=4").returncode == 0
    figures = json.loads(ddpm("evaluate", "hybrid", "--metrics=bits-per-dim", "--n=2", "--json").stdout)["figures"]
    assert figures[0]["details"]["variance"] == "learned-range"


def test_edm_trains_and_draws_its_grids_by_the_command(ddpm: Ddpm, tmp_path: Path) -> None:
    sets = ["objective.parameterization=edm", "objective.timesteps=log-normal", "schedule.timesteps=20"]
    done = ddpm("train", *TINY, "--steps=3", "--name=edm", *(f"--set={item}" for item in sets))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "edm" / "samples.png").is_file()


def test_samples_measured_as_files_have_the_figures_of_the_run(ddpm: Ddpm, tiny: Path) -> None:
    """Drawn by sample as pictures and as an array, and by evaluate itself: the same seeds, the same figure to the last bit."""
    drawing = ("--sampler=ddim", "--steps=2", "-n", "12", "--batch-size=4")
    assert ddpm("sample", "tiny", *drawing, "--each=each", "--npz=a.npz", "--no-preview").returncode == 0
    assert {path.name for path in tiny.iterdir()} >= {"a.npz", "each"}
    assert not (tiny / "samples.png").exists()
    wanted, *others = (
        json.loads(ddpm("evaluate", *arguments, "--json").stdout)["figures"][0]
        for arguments in (
            ("tiny", *drawing),
            ("each", "--batch-size=4", "--data=fashion-mnist-10k"),
            ("a.npz", "--batch-size=4", "--data=fashion-mnist-10k"),
        )
    )
    for figure in others:
        assert {name: figure[name] for name in ("value", "floor", "n", "sha256")} == {
            name: wanted[name] for name in ("value", "floor", "n", "sha256")
        }


def test_another_run_is_a_reference(ddpm: Ddpm, tiny: Path) -> None:
    shutil.copytree(tiny / "runs" / "tiny", tiny / "runs" / "other")
    done = ddpm("evaluate", "tiny", *QUICK, "--reference=other", "--json")
    assert done.returncode == 0, done.stderr
    (figure,) = json.loads(done.stdout)["figures"]
    assert (figure["data"], figure["split"], figure["details"]["reference_images"]) == ("other", "all", 12)
    assert "with the seeds 12 to 23" in " ".join(done.stderr.split())
    assert figure["value"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["each", "--metrics=bits-per-dim", "--data=fashion-mnist-10k"], ["bits-per-dim is measured of a model", "Name a run"]),
        (["each", "--metrics=loss-per-timestep"], ["loss-per-timestep is measured of a model"]),
        (["each"], ["fcd looks through a classifier", "--data DATA"]),
        (["each", "--steps=3", "--data=fashion-mnist-10k"], ["--steps has no effect on each", "drawn already"]),
        (["each", "--no-ema", "--data=fashion-mnist-10k"], ["--ema has no effect"]),
        (["each", "-n", "9", "--data=fashion-mnist-10k"], ["each holds 2 pictures, not 9"]),
        (["each", "--data=fashion-mnist-10k", "--set=sample.threshold=none"], ["sample.threshold has no effect"]),
        (["runs/tiny/samples", "--data=fashion-mnist-10k"], ["holds grids of samples", "ddpm sample tiny"]),
        (["tiny", "--data=mnist"], ["--data mnist has no place beside a model", "--reference"]),
        (["tiny", "--reference=nothing"], ["There is no --reference nothing", "train, test, a folder"]),
        (["tiny", "--reference=torn.npz"], ["torn.npz is truncated or no archive"]),
        (["tiny", "--write-statistics=s.npz"], ["--write-statistics has no effect on fcd: it is for fid"]),
    ],
)
def test_images_and_references_that_cannot_be_measured_are_refused(
    ddpm: Ddpm, tiny: Path, arguments: list[str], words: list[str]
) -> None:
    (tiny / "each").mkdir()
    for number in range(2):
        shutil.copy(tiny / "runs" / "tiny" / "samples.png", tiny / "each" / f"{number}.png")
    (tiny / "torn.npz").write_bytes(b"PK\3\4")
    assert_refused(ddpm("evaluate", *arguments), *words)
