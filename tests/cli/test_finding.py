"""`ddpm ls`, `info`, `doctor`, `config init` and `config diff`, run as a person would."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from command import Ddpm, files_below, run_ddpm
from fake_runs import add_figure, fake_run
from hostile import ESCAPE

from ddpm_cli.cli.app import app
from ddpm_cli.cli.ls import LISTINGS
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.config.resolve.template import template
from ddpm_cli.data.sources.formats.registry import READERS
from ddpm_cli.errors import ConfigError, DdpmError, OutputError, RunError
from ddpm_cli.experiments.run_info import model_info
from ddpm_cli.experiments.run_list import list_rows
from ddpm_cli.interop.registry import known_formats
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.runs.lock import is_locked, locked
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained


def call(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    call(*arguments)
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


# ------------------------------------------------------------------------------------------------------------------ ls


def test_ls_tells_of_each_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(runs, "old", held_out=0.05)
    add_figure(fake_run(runs, "half", held_out=0.04, step=50), 12.5)
    fake_run(runs, "measured", held_out=0.03, logged={"fcd": 7.5})
    fake_run(runs / "sweep", "linear-s0")
    rows = {row["name"]: row for row in answer(capsys, "ls", "--json")["runs"]}
    assert list(rows) == ["sweep/linear-s0", "measured", "half", "old"]  # the newest first
    assert (rows["old"]["state"], rows["old"]["step"], rows["old"]["metric"]) == ("finished", 100, None)
    assert rows["old"]["held_out_loss"] == pytest.approx(0.05)
    assert rows["old"]["loss"] == pytest.approx(0.06)
    assert (rows["half"]["state"], rows["half"]["share"]) == ("stopped", 0.5)
    assert (rows["half"]["metric"], rows["half"]["value"]) == ("fcd", 12.5)
    assert (rows["measured"]["metric"], rows["measured"]["value"]) == ("fcd", 7.5)
    assert rows["old"]["bytes"] == sum(path.lstat().st_size for path in (runs / "old").rglob("*") if path.is_file())
    with locked(RunDirectory(runs / "half")):
        assert {row.name: row.state for row in list_rows(runs)}["half"] == "training"
    call("ls")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[2:]] == [
        ["sweep/linear-s0", "fashion-mnist-10k", "100", "done"],
        ["measured", "fashion-mnist-10k", "100", "done"],
        ["half", "fashion-mnist-10k", "50", "50%"],
        ["old", "fashion-mnist-10k", "100", "done"],
    ]
    assert answer(capsys, "info", "sweep/linear-s0", "--json")["row"]["state"] == "finished"


def _spoil(runs: Path) -> dict[str, str]:
    """Broken runs by name, with a word of the reason."""
    for name in ("config", "manifest", "link", "log", "value"):
        fake_run(runs, name)
    (runs / "config" / "config.toml").write_text("x = [")
    next((runs / "manifest" / "checkpoints").iterdir()).joinpath("manifest.json").write_text("[]")
    shutil.rmtree(runs / "link" / "samples")
    os.symlink(runs, runs / "link" / "samples")
    (runs / "log" / "metrics.jsonl").unlink()
    os.mkfifo(runs / "log" / "metrics.jsonl")
    (runs / "value" / "config.toml").write_text((runs / "value" / "config.toml").read_text().replace("= 100\n", "= -1\n"))
    for name in ("json", "pipe", "none"):
        (runs / name).mkdir()
    (runs / "json" / "run.json").write_text("{")
    os.mkfifo(runs / "pipe" / "run.json")
    (runs / "none" / "checkpoints").mkdir()
    return {
        "config": "TOML syntax",
        "manifest": "no complete checkpoint",
        "link": "symbolic link",
        "log": "not an ordinary file",
        "value": "train.steps",
        "json": "not valid JSON",
        "pipe": "not an ordinary file",
        "none": "is missing",
    }


@pytest.mark.usefixtures("cost")
def test_a_broken_run_is_listed_with_its_fault_and_the_sound_ones_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(runs, "sound")
    reasons = _spoil(runs)
    (runs / "notes.txt").write_text("no run")
    os.symlink(runs, runs / "loop")
    rows = {row["name"]: row for row in answer(capsys, "ls", "--json")["runs"]}
    assert rows.keys() == {"sound", *reasons}
    assert rows["sound"]["fault"] == ""
    for name, reason in reasons.items():
        assert rows[name]["state"] == "broken"
        assert reason in rows[name]["fault"], (name, rows[name]["fault"])
    call("ls")
    shown = capsys.readouterr().out
    assert all(f"{name}: {rows[name]['fault']}" in shown for name in reasons)


@pytest.mark.usefixtures("cost")
def test_what_a_stranger_wrote_can_be_listed_and_is_clean(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fake_run(runs, "own").path
    wild = {"created": float("nan"), "command": [ESCAPE], "packages": {ESCAPE: 1}, "device": ESCAPE, "platform": 10**400}
    (path / "run.json").write_text(json.dumps(wild | {"data": {"name": ESCAPE, "source": [], "train_images": True}}))
    path.rename(runs / ESCAPE.replace("/", ""))
    for arguments in (("ls",), ("info", str(runs / ESCAPE))):
        call(*arguments)
        assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
        assert answer(capsys, *arguments, "--json")


@pytest.mark.parametrize("what", LISTINGS)
def test_ls_lists_what_can_be_chosen(what: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {
        "datasets": "data",
        "networks": "model",
        "losses": "objective.loss",
        "parameterizations": "objective.parameterization",
        "weightings": "objective.weighting",
        "optimizers": "optimizer",
        "timesteps": "objective.timesteps",
        "samplers": "sample.sampler",
        "spacings": "sample.sampler.spacing",
        "paths": "sample.path",
        "thresholds": "sample.threshold",
        "schedules": "schedule",
    }
    registries = {"presets": preset_names, "metrics": known_metrics, "formats": known_formats}
    expected = tuple(registries[what]() if what in registries else sections()[places[what]])
    expected += tuple(f"arrays: {reader.title}" for reader in READERS) if what == "datasets" else ()
    found = answer(capsys, "ls", what, "--json")[what]
    assert tuple(item["name"] for item in found) == expected
    assert all(item["about"] for item in found)
    call("ls", what)
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in expected)


def test_ls_of_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("ls")
    assert "ddpm train --preset quick" in capsys.readouterr().out
    assert answer(capsys, "ls", "--json") == {"runs": []}
    with pytest.raises(RunError, match="samplrs") as refused:
        call("ls", "samplrs")
    assert "samplers" in refused.value.remedy
    assert not runs.exists()


# ---------------------------------------------------------------------------------------------------------------- info


def test_info_tells_which_checkpoints_are_sound(trained_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / "tiny"))
    add_figure(RunDirectory(run), 3.25)
    before = files_below(tmp_path)
    done = run_ddpm("info", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("6 steps in", "100% of the budget", "sound", "step-00000006", "fcd", "3.25", "train.steps", "torch 2"):
        assert words in done.stdout, words
    assert files_below(tmp_path) == before
    weights = run / "checkpoints" / "step-00000006" / "ema.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    damaged = run_ddpm("info", "tiny", "--json", cwd=tmp_path)
    assert damaged.returncode == 1
    told = json.loads(damaged.stdout)
    assert "SHA-256" in told["checkpoints"][0]["fault"]
    assert told["checkpoints"][0]["fault"] in told["faults"]
    assert told["provenance"]["data"]["name"] == "fashion-mnist-10k"


def test_info_counts_the_parameters_as_training_did(trained_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained_folder / "runs" / "tiny"
    checkpoint = run / "checkpoints" / "step-00000006"
    exported = tmp_path / "model.safetensors"
    call("export", str(run), "--out", str(exported))
    parameters = sum(p.numel() for p in load_trained(run, torch.device("cpu")).network.parameters())
    infos = [model_info(path) for path in (run, checkpoint, exported)]
    assert [info.kind for info in infos] == ["run", "checkpoint", "exported file"]
    assert [(info.parameters, info.step, info.image_shape) for info in infos] == [(parameters, 6, (1, 28, 28))] * 3
    assert infos[0].config == infos[1].config == infos[2].config
    data = bytearray(exported.read_bytes())
    data[-1] ^= 1
    exported.write_bytes(data)
    with pytest.raises(DdpmError, match="altered"):
        model_info(exported)


def test_looking_whether_a_run_is_in_use_does_not_take_it(runs: Path) -> None:
    run = fake_run(runs, "one")
    assert not is_locked(run)  # no lock file yet
    with locked(run):
        assert is_locked(run)
    assert not is_locked(run)


# -------------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize("preset", preset_names())
def test_a_template_is_its_preset_with_every_key_in_or_out(preset: str, tmp_path: Path) -> None:
    text, wanted = template(preset), load_config(preset=preset).config
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    assert load_config(file=file).config == wanted
    lines = [line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in text.splitlines()]
    file.write_text("\n".join(lines))
    assert tomllib.loads(file.read_text())["train"]["seed"] == 0
    assert load_config(file=file).config == wanted
    assert set(load_config(file=file).origins.values()) == {str(file)}


@pytest.mark.usefixtures("runs")
def test_config_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(capsys, "config", "init", "mine.toml", "--preset", "quick", "--json")
    assert made == {"file": "mine.toml", "preset": "quick"}
    before = files_below(tmp_path)
    with pytest.raises(OutputError, match="in the way"):
        call("config", "init", "mine.toml")
    with pytest.raises(ConfigError, match="quik"):
        call("config", "init", "other.toml", "--preset", "quik")
    assert files_below(tmp_path) == before


def test_config_init_names_its_file_as_a_shell_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call("config", "init", "my recipe.toml")
    assert "--config 'my recipe.toml'" in capsys.readouterr().err


def test_config_diff_takes_presets_files_and_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run(runs, "one", "optimizer.lr=0.5")
    Path("same.toml").write_text(run.config_path.read_text())
    assert answer(capsys, "config", "diff", "one", "same.toml", "--json")["differences"] == {}
    found = answer(capsys, "config", "diff", "default", "runs/one", "--json")["differences"]
    assert found["optimizer.lr"] == {"a": 2e-4, "b": 0.5}
    assert found.keys() >= {"data.kind", "train.steps"}
    call("config", "diff", "default", str(next(run.checkpoints_folder.iterdir())))
    assert ["optimizer.lr", "0.0002", "0.5"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    with pytest.raises(DdpmError, match="no run 'two'"):
        call("config", "diff", "default", "two")


# -------------------------------------------------------------------------------------------------------------- doctor


def test_doctor_tells_what_is_there_and_how_to_get_the_rest(ddpm: Ddpm, tmp_path: Path) -> None:
    done = ddpm("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {(finding["topic"], finding["name"]): finding for finding in json.loads(done.stdout)["findings"]}
    assert found["devices", "cpu"]["state"] == "ok"
    assert found["data", "fashion-mnist-10k"]["state"] == "ok"
    assert found["folders", "cache"]["state"] == "ok"
    assert files_below(tmp_path) == {}


def test_doctor_gives_the_install_line_of_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from ddpm_cli.bench import doctor

    def pretended(name: str) -> str:
        if name == "torch-fidelity":
            raise PackageNotFoundError(name)
        return {"datasets": "1.0"}.get(name) or version(name)

    monkeypatch.setattr(doctor, "version", pretended)
    found = {finding.name: finding for finding in doctor.examine_extras()}
    assert found.keys() >= {"metrics", "huggingface", "test"}
    assert (found["metrics"].state, found["metrics"].remedy) == ("missing", "pip install 'ddpm-cli[metrics]'")
    assert "no torch-fidelity" in found["metrics"].text
    assert "datasets 1.0, where >=3 is needed" in found["huggingface"].text
    assert "no torch-fidelity" in found["test"].text  # which names the other two


def test_doctor_says_what_is_broken(monkeypatch: pytest.MonkeyPatch, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("DDPM_CACHE", "file/cache")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DdpmError, match="cache"):
        call("doctor")
    shown = capsys.readouterr().out
    assert "Set DDPM_CACHE to a folder that you may write to." in shown
    assert "Install g++ or clang++." in shown
