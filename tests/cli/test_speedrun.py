"""`ddpm speedrun`: a record trained by the clock with three seeds, and the rules that it is held to."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import tomli_w
from repository import ROOT
from tiny_configs import TINY

import ddpm_cli
from ddpm_cli.cli.app import run
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.errors import ConfigError, DataError
from ddpm_cli.experiments import speedrun_file
from ddpm_cli.experiments.speedrun_file import CLOCKS, load_record
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.speedrun import Clock

OWN = {"by": "Jane Doe", "note": "Small.", "clock": "test"}
TEST = Clock("test", minutes=0.005, device="cpu", data="fashion-mnist-10k", metric="fcd", n=40, most_evaluations=4)
SETTINGS = TINY | {"schedule.timesteps": 20, "train.log_every": 1, "sample.sampler.kind": "ddim", "sample.sampler.steps": 2}


def record(folder: Path, *, own: dict[str, str] = OWN, preset: str | None = None, **settings: object) -> Path:
    """A record for the test's clock; settings with `__` for dots, None leaves one out."""
    changes = {key.replace("__", "."): value for key, value in settings.items()}
    tree = {key: value for key, value in (SETTINGS | changes).items() if value is not None}
    section = "".join(f"{key} = {json.dumps(value)}\n" for key, value in own.items())
    named = "" if preset is None else f"preset = {json.dumps(preset)}\n"
    file = folder / "small.toml"
    dotted = "".join(tomli_w.dumps({"x": value}).replace("x", key, 1) for key, value in tree.items())
    file.write_text(f"{named}{dotted}[record]\ndate = 2026-11-28\n{section}")
    return file


@pytest.fixture(autouse=True)
def test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLOCKS, "test", TEST)


def test_a_record_is_trained_with_three_seeds_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path, preset="quick")  # whose five minutes the clock replaces
    assert run(["speedrun", "small.toml", "--json"], False) == 0
    told = json.loads(capsys.readouterr().out)
    folder = tmp_path / "runs" / "small-test"
    assert json.loads((folder / "speedrun.json").read_text()) == told
    assert told["record"] == {"file": "small.toml", "by": "Jane Doe", "date": "2026-11-28", "note": "Small."}
    assert told["clock"]["n"] == 40
    assert [one["seed"] for one in told["runs"]] == [0, 1, 2]
    values = [one["value"] for one in told["runs"]]
    assert len(set(values)) == 3
    assert told["mean"] == pytest.approx(statistics.fmean(values))
    assert told["spread"] == pytest.approx(statistics.stdev(values))
    for one in told["runs"]:
        assert one["steps"] > 0
        assert one["seconds"] >= TEST.minutes * 60
        config = load_config(file=tmp_path / one["path"] / "config.toml").config
        assert (config.train.minutes, config.train.steps, config.train.epochs) == (TEST.minutes, None, None)
        assert (config.train.seed, config.train.device) == (one["seed"], "cpu")
        (figure,) = map(json.loads, (tmp_path / one["path"] / "evaluations" / "figures.jsonl").read_text().splitlines())
        assert (figure["metric"], figure["n"], figure["seed"], figure["value"]) == ("fcd", 40, 40 * one["seed"], one["value"])
        assert (figure["step"], figure["ema"], figure["details"]["steps"]) == (one["steps"], True, 2)

    # The same again trains nothing and measures nothing; so does Python, and what else was measured meanwhile is no matter.
    other = f"runs/small-test/{Path(told['runs'][0]['path']).name}"
    assert run(["evaluate", other, "--metrics=fcd", "--n=40", "--steps=3", "--device=cpu"], False) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = ddpm_cli.speedrun("small.toml", progress=False)
    assert [one.value for one in again.runs] == values
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before
    assert again.file == Path("runs/small-test/speedrun.json")
    assert run(["speedrun", "small.toml"], False) == 0
    shown = capsys.readouterr().out
    assert f"fcd {told['mean']:.3f} ± {told['spread']:.3f} (mean and standard deviation of 3 seeds, 40 samples each" in shown


BROKEN: dict[str, tuple[dict[str, object], list[str]]] = {
    "a budget in steps": ({"train__steps": 5}, ["train.steps", "the clock alone ends a run"]),
    "a budget in minutes": ({"train__minutes": 5}, ["train.minutes", "the clock alone ends a run"]),
    "a seed": ({"train__seed": 7}, ["train.seed", "with the seeds 0, 1, 2"]),
    "a device": ({"train__device": "cpu"}, ["train.device", "the clock says where"]),
    "other data": ({"data__kind": "mnist"}, ["data.kind", "trains on all of fashion-mnist-10k, and on nothing else"]),
    "some of the data": ({"data__limit": 100}, ["data.limit", "cannot be 100"]),
    "a measurement of its own": ({"evaluate__n": 9}, ["evaluate", "is fixed by the clock"]),
    "seeds of its own": ({"seeds": [4, 5]}, ["seeds", "is fixed by the clock"]),
    "too long a sampler": ({"sample__sampler__steps": 5}, ["takes 5 evaluations", "allows 4"]),
    "guidance beside": (
        {"model__num_classes": 10, "sample__guidance__scale": 3.0, "sample__sampler__steps": 4},
        ["takes 8 evaluations", "allows 4"],
    ),
    "other weights": ({"train__init_from": "runs/good"}, ["train.init_from", "unknown key"]),
    "an unknown clock": ({"own": OWN | {"clock": "tset"}}, ["record.clock", 'unknown clock "tset"', "test"]),
    "no clock": ({"own": {"by": "Jane"}}, ["record.clock", "is missing"]),
    "nobody": ({"own": {"clock": "test"}}, ["record.by", "is missing"]),
    "more of itself": ({"own": OWN | {"price": "1"}}, ["record.price", "unknown key"]),
    "another preset's data": ({"preset": "paper-cifar10", "data__kind": None}, ["data.kind", "cifar10", "preset paper-cifar10"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_rule_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, words = BROKEN[case]
    file = record(tmp_path, **changes)  # type: ignore[arg-type]
    assert run(["speedrun", str(file), f"--out={tmp_path}"], False) == 2
    told = capsys.readouterr()
    assert told.out == ""
    flat = " ".join(told.err.split())
    assert [word for word in words if word not in flat] == [], flat
    assert "faults" not in flat
    assert "examples/speedrun/README.md" in flat
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_all_broken_rules_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_record(record(tmp_path, train__epochs=1, train__seed=3, data__limit=9, sample__sampler__steps=20))
    assert "4 faults" in str(caught.value)


def test_flipping_the_images_is_a_records_own_choice(tmp_path: Path) -> None:
    *_, sweep = load_record(record(tmp_path, data__horizontal_flip=True))
    assert all(made.config.data.horizontal_flip for made in sweep.runs)


def test_a_record_can_be_measured_by_another_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLOCKS, "long", Clock("long", 3, "cpu", "fashion-mnist-10k", "fcd", 50))
    _, clock, sweep = load_record(record(tmp_path), clock="Long")
    assert (clock.name, sweep.name) == ("long", "small-long")
    assert {made.config.train.minutes for made in sweep.runs} == {3}
    assert sweep.command.endswith("small.toml --clock long")


def test_nothing_stands_in_for_the_clocks_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "nothing")

    def no_network(*arguments: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(fashion_mnist, "fetch", no_network, raising=True)
    monkeypatch.setitem(CLOCKS, "test", Clock("test", 0.005, "cpu", "fashion-mnist", "fcd", 40))
    with pytest.raises(DataError, match="nothing may stand in for it"):
        ddpm_cli.speedrun(record(tmp_path, data__kind="fashion-mnist"), runs=tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [name for name in speedrun_file.CLOCKS if name != "test"])
def test_the_public_clocks_measure_what_there_is_with_enough_samples(name: str) -> None:
    clock = CLOCKS[name]
    assert known_metrics()[clock.metric].reliable_n <= clock.n
    assert load_config(sets=[f"data={clock.data}"]).config.data.kind == clock.data


@pytest.mark.parametrize("file", sorted((ROOT / "examples" / "speedrun").glob("*.toml")), ids=lambda file: file.stem)
def test_our_records_keep_the_rules(file: Path) -> None:
    made, clock, sweep = load_record(file)
    assert made.by
    assert clock.name in CLOCKS
    assert len(sweep.runs) == 3
