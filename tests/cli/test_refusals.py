"""What is wrong with a request is found before torch is imported, and by a dry run as by the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import TINY, Ddpm, environment, files_below
from fake_runs import fake_run
from picture_files import write_folder, write_picture
from safetensors.numpy import save_file

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.compute import device
from ddpm_cli.core.compute.machine_memory import MachineMemory
from ddpm_cli.errors import DeviceError
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.planning import estimate, memory_report
from ddpm_cli.training.train import PACKAGES

ONE_PROCESS = """
import json, sys
from ddpm_cli.cli.app import run
for arguments in json.loads(sys.argv[1]):
    status = run(arguments, False)
    print(json.dumps([status, "torch" in sys.modules]), flush=True)
    print("<end>", file=sys.stderr, flush=True)
"""


def make_place(folder: Path) -> Path:
    """A folder with runs, an exported file and pictures, among them broken ones."""
    fake_run(folder / "runs", "good")
    fake_run(folder / "runs", "other", "optimizer.lr=1e-3")
    fake_run(folder / "runs", "bare", checkpoint=False)
    broken = fake_run(folder / "runs", "broken")
    next(broken.checkpoints_folder.iterdir()).joinpath("model.safetensors").write_bytes(b"x")
    text = {"config": to_toml(load_config().config), "image_shape": [1, 28, 28], "step": 3, "class_names": []}
    facts = {"ddpm_format_version": "1", "ddpm": json.dumps(text)}
    save_file({"weight": np.zeros(1, np.float32)}, folder / "model.safetensors", facts)
    save_file({"weight": np.zeros(1, np.float32)}, folder / "foreign.safetensors")
    write_folder(folder / "photos", 3)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no picture")
    (folder / "sweep.toml").write_text('[base]\ndata = "fashion-mnist-10k"\n[grid]\nschedule = ["linear", "cosine"]\n')
    (folder / "odd.toml").write_text('[evaluate]\nmetrics = ["fidd"]\n')
    (folder / "few.toml").write_text('[evaluate]\nmetrics = ["fcd"]\nn = 1\n')
    return folder


WRONG = {
    "train --set sample.sampler.kind=foo": "unknown sampler",
    "train --device gpu": "is no device",
    "train --device mps": "Apple",
    "train --set train.precision=fp16 --device cpu": "needs a CUDA device",
    "train --name my:run": "cannot be the name",
    "train --name good": "already a run",
    "train --out notes.txt": "",
    "train --out no/where": "",
    "train --data nowhere": "no data set",
    "train --data empty": "no pictures",
    "train --data photos --size 9000": "",
    "train --data notes.txt": "none of .npz",
    "train --data fashion-mnist-10k --set model.num_classes=7": "10 classes",
    "train --set schedule=table": "needs a table",
    "train --set model=dit --set model.heads=5": "model.heads (5) does not divide model.width (192)",
    "train --set model=dit --set model.width=18 --set model.heads=2": "model.width (18) is no multiple of 4",
    "train --set model=dit --set model.stem=2": 'the kind "dit" has no such key',
    "train --batch-size auto --set train.micro_batch_size=2": "micro_batch_size",
    "train --set train.trackers=nothing": "train.trackers",
    "train --dry-run --device gpu": "is no device",
    "train --from nowhere": "no run",
    "train --from photos": "no run, no checkpoint and no pipeline",
    "train --from notes.txt": "no model that can be sampled",
    "train --from foreign.safetensors": "no model exported",
    "train --from bare": "usable checkpoint",
    "train --from broken": "usable checkpoint",
    "train --freeze down.0": "names none",
    "train --set start.from=good": 'the nearest is "weights"',
    "resume good --set start.weights=other": "cannot change",
    "resume nowhere": "no run",
    "resume good --set model.stem=1": "cannot change",
    "resume good --device gpu": "is no device",
    "resume good --set optimizer.learning_rate=1": "lr",
    "resume broken": "usable checkpoint",
    "sample nowhere": "no run",
    "sample bare": "usable checkpoint",
    "sample broken": "truncated",
    "sample good --device gpu": "is no device",
    "sample good --sampler foo": "unknown sampler",
    "sample good --steps 5000": "exceeds",
    "sample good --label 3": "without class labels",
    "sample good --out no/where.png": "",
    "sample model.safetensors --no-ema": "EMA weights alone",
    "sample model.safetensors --sampler foo": "unknown sampler",
    "sample foreign.safetensors": "no model exported",
    "sample notes.txt": "no model that can be sampled",
    "evaluate nowhere": "no run",
    "evaluate good --metrics fidd": "no metric",
    "evaluate good --metrics kid --n 1": "at least 2",
    "evaluate good --device gpu": "is no device",
    "evaluate good --sampler foo": "unknown sampler",
    "evaluate good --variance foo": "--variance",
    "distill nowhere": "no run",
    "distill bare": "usable checkpoint",
    "distill broken": "usable checkpoint",
    "distill good": "no ema tensors",
    "distill good --name other": "already a run",
    "distill foreign.safetensors": "no model exported",
    "compare good nowhere": "no run",
    "compare good good": "one run",
    "compare good broken": "usable checkpoint",
    "compare good other --baseline nothing": "no arm or run",
    "compare good other --device gpu": "is no device",
    "export nowhere": "no run",
    "export good --format foo": "no export format",
    "export good --format onnx --out no/where.onnx": "",
    "export good --format onnx --with-sampler --steps 5000": "must be from 1",
    "import nowhere": "no folder",
    "import photos": "no pipeline",
    "import photos --name good": "already a run",
    "report nowhere": "no run",
    "report good --device gpu": "is no device",
    "report good --out page.txt": "HTML",
    "interpolate 1 2 --run nowhere": "no run",
    "interpolate photos/000.png notes.txt --resize --run good": "notes.txt",
    "inpaint photos/000.png photos/nowhere.png --run good": "photos/",
    "inpaint photos/000.png photos/001.png --run good --device gpu": "is no device",
    "img2img nowhere.png --run good": "nowhere.png",
    "img2img photos/000.png --run good --sampler foo": "unknown sampler",
    "img2img photos/000.png --run model.safetensors": "photos/000.png",
    "sweep nowhere.toml": "no such file",
    "sweep odd.toml": "no metric",
    "sweep few.toml --dry-run": "at least 2",
    "sweep sweep.toml --baseline nothing --dry-run": "no arm or run",
    "sweep sweep.toml --name good": "is a run",
    "speedrun nowhere.toml": "no such file",
    "speedrun sweep.toml": "is fixed by the clock",
    "bench --device gpu": "is no device",
    "bench --precisions fp16 --device cpu": "needs a CUDA device",
    "bench --against fooo": "does not know",
    "inspect-schedule nowhere": "no run",
    "inspect-schedule foreign.safetensors": "no model exported",
    "info nowhere": "no run",
    "info foreign.safetensors": "no model exported",
    "data check nowhere": "no data set, and no folder",
    "data check empty": "no pictures",
    "config diff nowhere quick": "no run",
    "ls nowhere": "nothing to list",
}


def test_what_is_wrong_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    lines = json.dumps([line.split() for line in WRONG])
    command = [sys.executable, "-c", ONE_PROCESS, lines]
    done = subprocess.run(
        command, cwd=make_place(tmp_path), env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    said = [" ".join(text.split()) for text in done.stderr.split("<end>\n")]
    assert len(answers) == len(WRONG), done.stderr[-2000:]
    found = {line: answer for line, answer in zip(WRONG, answers, strict=True) if answer != [2, False]}
    assert found == {}
    missing = {
        line: text
        for (line, words), text in zip(WRONG.items(), said, strict=False)
        if words not in text or "error" not in text.lower()
    }
    assert missing == {}
    assert not [text for text in said if "Traceback" in text]


# ------------------------------------------------------------------------------------------------------------- dry runs

FAULTS = {
    "a taken name": ("train", *TINY, "--name=good"),
    "the name of what is no run": ("train", *TINY, "--name=held"),
    "no name": ("train", *TINY, "--name=my run/1"),
    "an output that is a file": ("train", *TINY, "--out=notes.txt"),
    "an output that cannot be made": ("train", *TINY, "--out=no/where"),
    "no pictures": ("train", "--data=empty"),
    "pictures of several sizes": ("train", "--data=mixed"),
    "a device that is missing": ("train", *TINY, "--device=mps"),
    "a sampler with more steps than the schedule": ("train", *TINY, "--set=schedule.timesteps=10", "--set=sample.sampler.steps=20"),
    "a preset and a setting of another kind": ("train", "--preset=quick", "--set=sample.sampler.eta=1"),
    "classes that the data have not": ("train", *TINY, "--set=model.num_classes=3"),
    "a number format of another device": ("train", *TINY, "--device=cpu", "--set=train.precision=fp16"),
    "nothing to find": ("train", *TINY, "--batch-size=auto", "--set=train.micro_batch_size=2"),
    "no signal": ("train", *TINY, "--device=cpu", "--set=schedule.zero_terminal_snr=true"),
    "images too small for a metric": ("train", "--data=tiny.npy", "--device=cpu", "--set=train.evaluate_every=10"),
    "more memory than there is": ("train", *TINY, "--device=cpu", "--set=model.dropout=0.2"),
    "patches that do not divide": (
        "train",
        "--data=fashion-mnist-10k",
        "--device=cpu",
        "--set=model=dit",
        "--set=model.patch_size=3",
    ),
    "a sweep into a run": ("sweep", "sweep.toml", "--name=good"),
    "a sweep into a file": ("sweep", "sweep.toml", "--out=notes.txt"),
    "a baseline that is none": ("sweep", "sweep.toml", "--baseline=nothing"),
    "a metric that is none": ("sweep", "odd.toml"),
    "too few samples": ("sweep", "few.toml"),
    "something else where a run would go": ("sweep", "sweep.toml", "--name=taken"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = make_place(tmp_path)
    (folder / "runs" / "held").mkdir()
    (folder / "runs" / "taken" / "linear-s0").mkdir(parents=True)
    (folder / "runs" / "taken" / "linear-s0" / "thesis.tex").write_text("")
    write_folder(folder / "mixed", 2)
    write_picture(folder / "mixed" / "taller.png", 2, (9, 8, 3))
    np.save(folder / "tiny.npy", np.zeros((30, 4, 4), np.uint8))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_dry_run_refuses_what_the_real_run_refuses(
    fault: str, place: Path, ddpm_here: Ddpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "memory" in fault:
        monkeypatch.setattr(memory_report, "machine_memory", lambda: MachineMemory(10**6, 10**6))
        monkeypatch.setattr(estimate, "held_bytes", lambda: 10**9)  # which grows with all that this process has done before
    before = files_below(place)
    real, dry = (ddpm_here(*FAULTS[fault], *more, cwd=place) for more in ((), ("--dry-run",)))
    assert (real.returncode, real.stdout) == (2, "")
    assert (dry.returncode, dry.stdout, dry.stderr) == (2, "", real.stderr)
    assert "error" in real.stderr
    assert files_below(place) == before


# --------------------------------------------------------------------------------------------------------------- devices


def test_what_can_be_no_device_is_known_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("auto", "CPU", "cpu"):
        device.check_device(name)
    for name, words in (
        ("gpu", 'called "cuda" here'),
        ("cuda:x", "no device"),
        ("metal", '"mps"'),
        ("cdua", 'the nearest .* "cuda"'),
    ):
        with pytest.raises(DeviceError, match=words):
            device.check_device(name)
    version = tmp_path / "version.py"
    for text, built in (
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", set()),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", {"cuda"}),
        ("cuda = None\nhip = '6.2'\n", {"hip"}),
        ("nothing", None),
    ):
        version.write_text(text)
        assert device.built_for(version) == built
    monkeypatch.setattr(device, "built_for", lambda _: {"cuda"})
    monkeypatch.setattr(device, "has_driver", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceError, match="driver"):
        device.check_device("CUDA:0")
    with pytest.raises(DeviceError, match="Apple"):
        device.check_device("mps")
    monkeypatch.setattr(device, "has_driver", lambda: True)
    device.check_device("cuda:0")  # whether it is there, torch alone can tell
    monkeypatch.setattr(device, "built_for", lambda _: None)
    monkeypatch.setattr(device, "has_driver", lambda: False)
    device.check_device("cuda")


def test_a_run_that_another_process_holds_is_refused_without_torch(tmp_path: Path) -> None:
    fake_run(tmp_path / "runs", "good")
    code = "import sys; from ddpm_cli.cli.app import run; print(run(['resume', 'good'], False), 'torch' in sys.modules)"
    with locked(RunDirectory(tmp_path / "runs" / "good")):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
    assert done.stdout == "2 False\n"
    assert "is in use by" in done.stderr
    assert "torch" in PACKAGES
