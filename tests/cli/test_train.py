"""`ddpm train` and `ddpm resume` as a person meets them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import TINY, Ddpm, assert_refused, environment, files_below, run_ddpm
from launched import two_processes
from picture_files import write_picture
from PIL import Image
from safetensors.numpy import load_file


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ddpm_cli", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, text: str = "", seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not (path.exists() and (not text or text in path.read_text())):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


def weights(run: Path) -> dict[str, bytes]:
    newest = max((run / "checkpoints").glob("step-*"))
    return {
        f"{group}/{k}": v.tobytes() for group in ("model", "ema") for k, v in load_file(newest / f"{group}.safetensors").items()
    }


def test_a_run_leaves_what_the_readme_lists(trained_folder: Path) -> None:
    run = trained_folder / "runs" / "tiny"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(row["loss"] > 0 and row["lr"] == 2e-4 for row in rows)
    assert "held_out_loss" in rows[-1]
    history = json.loads((run / "metrics.json").read_text())
    assert history[-1]["step"] == 6
    info = json.loads((run / "run.json").read_text())
    assert info["data"]["train_images"] == 10_000
    assert len(info["data"]["sha256"]) == 64
    assert info["seed"] == 0
    assert "torch" in info["packages"]
    assert "--steps=6" in info["command"]
    checkpoint = run / "checkpoints" / "step-00000006"
    assert {path.name for path in checkpoint.iterdir()} == {
        "model.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
        "state.json",
        "config.toml",
        "manifest.json",
    }
    with Image.open(run / "samples.png") as grid:
        assert grid.size == (2 * 30 + 2, 2 * 30 + 2)
    assert (run / "samples" / "step-00000006.png").exists()


def test_start_and_end_tables_and_json(ddpm: Ddpm) -> None:
    done = ddpm("train", *TINY, "--steps=2", "--json", "--seed=3")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["step"] == 2
    assert summary["run"] == "runs/default-001"
    for text in (
        "10,000 images, 28x28, 1 channel,",
        "parameters",
        "FLOP per image",
        "cpu, fp32",
        "images/s",
        "ddpm sample runs/default-001",
    ):
        assert text in done.stderr, text


def test_dry_run_writes_nothing_and_long_runs_name_the_quicker_preset(ddpm: Ddpm, tmp_path: Path) -> None:
    done = ddpm("train", "--dry-run", "--epochs=2000", "--data=fashion-mnist-10k", "--device=cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "ddpm train --preset quick" in done.stderr
    plan = json.loads(done.stdout)
    assert plan["run"] is None
    assert plan["estimated_seconds"] > 3600
    assert plan["total_steps"] == 156_250


STOPPED = (*TINY, "--steps=30", "--name=run", "--set=checkpoint.every=5", "--set=train.log_every=1")


def test_a_dry_run_says_what_it_starts_from_and_a_wrong_block_lists_them(ddpm: Ddpm, trained_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "colours"
    for number in range(12):
        write_picture(other / f"{number:02d}.png", number, (20, 24, 3))
    common = ("train", "--from=tiny", f"--data={other}", "--batch-size=4", "--steps=2", "--device=cpu")
    before = files_below(trained_folder / "runs")
    done = ddpm(*common, "--dry-run", "--json", cwd=trained_folder)
    assert done.returncode == 0, done.stderr
    start = json.loads(done.stdout)["start"]
    assert start["step"] == 6
    assert {*start["adapted"]} == {"conv_in.weight", "conv_out.weight", "conv_out.bias"}
    assert "step-00000006" in done.stderr
    assert "1 channel to 3" in done.stderr
    refused = ddpm(*common, "--freeze=down.9", cwd=trained_folder)
    assert_refused(refused, "no block 'down.9'", "down.0, down.1, middle_in")
    assert files_below(trained_folder / "runs") == before


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    done = run_ddpm("train", *STOPPED, cwd=folder)
    assert done.returncode == 0, done.stderr
    return weights(folder / "runs/run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_by_a_signal_and_resumed_equals_never_stopped(number: int, tmp_path: Path, never_stopped: dict[str, bytes]) -> None:
    process = start(tmp_path, "train", *STOPPED)
    wait_for(tmp_path / "runs/run/metrics.jsonl", '"step": 7,')
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), errors
    if number != signal.SIGKILL:
        assert "Go on with: ddpm resume runs/run" in errors
        assert "Traceback" not in errors
    resumed = run_ddpm("resume", "run", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["step"] == 30
    assert weights(tmp_path / "runs/run") == never_stopped
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs/run/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))


def test_a_budget_of_minutes_ends(ddpm: Ddpm) -> None:
    done = ddpm("train", *TINY, "--minutes=0.02", "--set=optimizer.decay=linear", "--json")
    assert done.returncode == 0, done.stderr
    assert 1.2 <= json.loads(done.stdout)["seconds"] < 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "modle.base_channels=3"], ["modle", "model"]),
        (["--set", "train.batch_size=0"], ["train.batch_size"]),
        (["--set", "schedule.kind=cosin"], ["cosin", "cosine"]),
        (["--set", "sample.sampler.steps=2000"], ["2000", "1000"]),
        (["--lr", "-1", "--batch-size", "0"], ["--lr", "--batch-size"]),
        (["--preset", "quik"], ["quik", "quick"]),
        (["--config", "missing.toml"], ["missing.toml"]),
        (["--device", "mps:7"], ["mps:7", "is no device", "cpu"]),
        (["--set", "model.attention_resolutions=[9]"], ["9", "14, 7"]),
        (["--set", "train.precision=fp16", "--device", "cpu"], ["fp16", "cpu"]),
        (["--epochs", "1e308"], ["train.epochs", "--epochs"]),
        (["--set", "model.channel_mult=[1,1,1,1,1,1,1,1,1,1,1,1]"], ["12 levels", "4096x4096", "channel_mult"]),
        (["--set", "sample.guidance.rescale=0.5"], ["sample.guidance", "num_classes"]),
        (["--set", "objective.loss=vlb", "--set", "objective.timesteps=logit-normal"], ["logit-normal", "uniform"]),
        (["--set", "data.root=nowhere"], ["data.root"]),
        (["--name", "../outside"], ["../outside"]),
        (["--out", "absent/runs"], ["absent"]),
        (["--set", "data.root=nowhere", "--data", "fashion-mnist"], ["nowhere"]),
    ],
)
def test_bad_requests_touch_nothing(arguments: list[str], words: list[str], ddpm: Ddpm, tmp_path: Path) -> None:
    done = ddpm("train", "--data", "fashion-mnist-10k", *arguments) if "--data" not in arguments else ddpm("train", *arguments)
    assert_refused(done, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_norm_of_one_value_is_refused(ddpm_here: Ddpm, tmp_path: Path) -> None:
    network = ("model.stem=4", "model.base_channels=32", "model.norm_groups=32", "model.channel_mult=[1,1,1,1]")
    settings = [f"--set={setting}" for setting in network]
    assert_refused(ddpm_here("train", "--data", "fashion-mnist-10k", *settings), "1x1 with 32 channels", "model.norm_groups=16")
    done = ddpm_here("train", "--data", "fashion-mnist-10k", *settings, "--set=model.norm_groups=16", "--steps=1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_refused(ddpm: Ddpm, trained_folder: Path) -> None:
    before = files_below(trained_folder)
    assert_refused(ddpm("train", *TINY, "--name=tiny", "--steps=1", cwd=trained_folder), "runs/tiny", "ddpm resume")
    assert files_below(trained_folder) == before


def test_resume_without_runs(ddpm: Ddpm, tmp_path: Path) -> None:
    assert_refused(ddpm("resume"), "No run", "ddpm train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "0"], ["train.steps", "--steps"]),
        (["--steps=-5"], ["train.steps"]),
        (["--minutes=-1"], ["train.minutes", "--minutes"]),
        (["--epochs", "nan"], ["train.epochs"]),
        (["--epochs", "0"], ["train.epochs"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["runs/tyni"], ["tyni", "tiny"]),
        (["--steps=8", "--set", "train.seed=3"], ["train.seed", "which images come", "optimizer.*"]),
    ],
)
def test_bad_requests_to_resume_touch_nothing(arguments: list[str], words: list[str], ddpm: Ddpm, trained_folder: Path) -> None:
    before = {name: time for name, time in files_below(trained_folder).items() if not name.endswith("lock")}
    assert_refused(ddpm("resume", *arguments, cwd=trained_folder), *words)
    assert {name: time for name, time in files_below(trained_folder).items() if not name.endswith("lock")} == before


def test_divergence_is_counted_and_told(ddpm: Ddpm, tmp_path: Path) -> None:
    """Steps without a finite gradient are skipped, are no success in silence, and leave valid JSON."""
    done = ddpm("train", *TINY, "--steps=6", "--name=wild", "--set=optimizer.lr=1e30", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout, parse_constant=pytest.fail)
    assert summary["non_finite_steps"] > 0
    assert summary["held_out_loss"] is summary["best_held_out_loss"] is None
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("runs/wild/checkpoints/*/manifest.json")]
    assert [manifest["best"] for manifest in manifests] == [False]
    assert "steps, their loss or gradient was not finite" in done.stderr
    assert done.stderr.count("is not finite; the step is skipped") == 3
    assert len((tmp_path / "runs/wild/incidents.jsonl").read_text().splitlines()) == summary["incidents"]["non-finite"] == 5
    for line in (tmp_path / "runs/wild/metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    done = ddpm("train", *TINY, "--steps=60", "--name=lost", "--set=optimizer.lr=1e30")
    assert done.returncode == 1
    assert "10 steps in a row" in done.stderr
    assert "No checkpoint from before the trouble is left" in done.stderr
    assert "ddpm train --config runs/lost/config.toml --set optimizer.lr=0.0002" in done.stderr


def test_a_run_that_diverges_goes_back_and_the_advice_it_gives_finishes_it(
    ddpm: Ddpm, trained_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs/tiny"
    shutil.copytree(trained_folder / "runs/tiny", run)
    done = ddpm("resume", "runs/tiny", "--steps=30", "--set=optimizer.lr=1e30", "--set=checkpoint.every=3")
    assert done.returncode == 1, done.stderr
    assert "went back to its checkpoint of step 6" in done.stderr
    folders = {path.name for path in (run / "checkpoints").iterdir()}
    assert folders == {"step-00000006", "diverged-step-00000012", "diverged-step-00000015"}
    assert all(name in done.stderr for name in folders if name.startswith("diverged"))
    *skipped, rollback = (json.loads(line) for line in (run / "incidents.jsonl").read_text().splitlines())
    assert [row["step"] for row in skipped] == list(range(8, 18))
    assert (rollback["kind"], rollback["step"], rollback["from_step"]) == ("rollback", 6, 17)
    command = re.search(r"ddpm (resume runs/tiny --set optimizer\S+)", done.stderr)
    assert command is not None
    done = ddpm(*command[1].split(), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["step"], summary["non_finite_steps"], summary["incidents"]) == (30, 0, {"rollback": 1})
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "lr" in row] == [2, 4, 6, *range(8, 31, 2)]
    assert rows[-1]["lr"] == 2e-4
    assert "lr = 0.0002" in (run / "config.toml").read_text()


def test_a_config_with_blanks_in_its_name_makes_a_run(ddpm: Ddpm, tmp_path: Path) -> None:
    (tmp_path / "my cfg.toml").write_text('data = "fashion-mnist-10k"\n')
    done = ddpm("train", *TINY, "--config", "my cfg.toml", "--steps=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/my-cfg-001").is_dir()


def test_two_processes_train_and_resume_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    # One process has one part of the batch, the other two, and waits for it.
    arguments = [*TINY, "--batch-size=3", "--set=train.micro_batch_size=1", "--set=data.limit=400"]
    arguments += ["--set=model.dropout=0", "--name=run", "--set=checkpoint.every=5"]
    # Samples in batches of 4, so that both processes have some to draw.
    arguments += [
        "--set=train.evaluate_every=5",
        "--set=train.evaluate_n=12",
        "--set=sample.batch_size=4",
        "--set=checkpoint.best_by=fcd",
    ]
    for name, start in (("one", run_ddpm), ("two", two_processes)):
        folder = tmp_path / name
        folder.mkdir()
        for command in (("train", *arguments, "--steps=5"), ("resume", "run", "--steps=10")):
            done = start(*command, cwd=folder)
            assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "runs/run/metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [row["step"] for row in one] == [row["step"] for row in two] == [2, 4, 5, 6, 8, 10]
    for first, second in zip(one, two, strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
    measured = [{row["step"]: row["fcd"] for row in rows if "fcd" in row} for rows in (one, two)]
    assert measured[0].keys() == {5, 10}
    assert measured[0] == pytest.approx(measured[1], rel=1e-3)


def test_resume_of_a_finished_run_says_how_to_extend_it_before_torch_is_imported(trained_folder: Path) -> None:
    code = "import sys; from ddpm_cli.cli.app import run; sys.exit(run(sys.argv[1:], False) or 'torch' in sys.modules)"
    for options in ([], ["--steps=1", "--set=optimizer.warmup_steps=9"]):
        command = [sys.executable, "-c", code, "resume", *options]
        done = subprocess.run(command, cwd=trained_folder, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "finished at step 6" in done.stderr
        assert "--steps 12" in done.stderr
        assert "warms up" not in done.stderr


def test_a_run_in_use_is_refused(tmp_path: Path, ddpm: Ddpm) -> None:
    process = start(tmp_path, "train", *TINY, "--steps=100000", "--name=busy", "--set=checkpoint.every=1")
    try:
        wait_for(tmp_path / "runs/busy/metrics.jsonl", '"step": 4,')
        assert_refused(ddpm("resume", "busy"), "in use", str(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_folder_that_is_a_file_is_refused(ddpm: Ddpm, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert_refused(ddpm("train", *TINY, "--steps=1"), "runs")
    assert (tmp_path / "runs").read_text() == "a file"
