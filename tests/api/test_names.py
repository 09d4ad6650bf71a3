"""What `import ddpm_cli` offers: these names, documented, typed, and at no cost until they are used."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

import ddpm_cli

CLASSES = ["DdpmError", "Figure", "Images", "Model", "NoiseSchedule", "Run", "Tuning"]
FUNCTIONS = [
    "compare",
    "distill",
    "ema",
    "evaluate",
    "export",
    "find_run",
    "load",
    "load_images",
    "make_grid",
    "make_schedule",
    "q_sample",
    "resume",
    "speedrun",
    "sweep",
    "train",
    "tune_sampler",
]

RIGHT = """
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import ddpm_cli


def listen(event: ddpm_cli.events.Event) -> None:
    if isinstance(event, ddpm_cli.events.TrainProgress):
        assert_type(event.share, float)


run = ddpm_cli.train("quick", data="photos", set={"schedule.kind": "cosine"}, steps=10, on_event=listen)
assert_type(run, ddpm_cli.Run)
assert_type(run.history()[-1]["loss"], float | int | None)
model = ddpm_cli.load(run, device="cpu")
assert_type(model, ddpm_cli.Model)
images = model.sample(4, sampler="ddim", steps=5, labels=["bag", 3, 4, 5], guidance=2.0)
assert_type(images, NDArray[Any])
assert_type(model.img2img("sketch.png", 0.6, n=4, guidance=2.0, batch_size=2), NDArray[Any])
assert_type(model.interpolate(3, images[0], steps=20), NDArray[Any])
assert_type(model.inpaint("photo.png", "mask.png", resample=5), NDArray[Any])
assert_type(ddpm_cli.export(run, "onnx").bytes, int)
assert_type(ddpm_cli.compare([run, "other"]).files, list[Path])
assert_type(ddpm_cli.sweep("schedules.toml").folder, Path)
assert_type(ddpm_cli.tune_sampler(run, [5, 8]).samplers[0].distance, float)
assert_type(ddpm_cli.ema(run, [0.05, 0.1], step=10)[0].path, Path)
assert_type(model.sample(4, guide_with="@2", guide_scale=1.5), NDArray[Any])
assert_type(ddpm_cli.distill(run, guidance=2.0, steps=10, set={"optimizer.lr": 1e-4}), ddpm_cli.Run)
assert_type(ddpm_cli.speedrun("quick.toml", "cpu-5min").mean, float)
ddpm_cli.make_grid(images).save("grid.png")
assert_type(ddpm_cli.evaluate(run, ["fcd", "nearest"], n=10), list[ddpm_cli.Figure])
ddpm_cli.evaluate(run, sampler="ddim", reference="test", variance="fixed-large", extractor_weights="inception.safetensors")
assert_type(ddpm_cli.make_schedule("cosine", 10).betas, NDArray[np.float64])
assert_type(ddpm_cli.make_schedule("flow", 10).signal_scales, NDArray[np.float64])
assert_type(ddpm_cli.load_images("mnist").labels, NDArray[np.int64])
assert_type(ddpm_cli.resume(ddpm_cli.find_run(), steps=20), ddpm_cli.Run)
"""
WRONG = """
import ddpm_cli

ddpm_cli.trian("quick")
ddpm_cli.train("quick", step=10)
ddpm_cli.train("quick", steps="ten")
ddpm_cli.load("run").sample("many")
ddpm_cli.evaluate("run").value
ddpm_cli.load("run").sample(4, stepps=3)
ddpm_cli.load("run").sample(4, steps="ten")
ddpm_cli.evaluate("run", repeets=2)
ddpm_cli.evaluate("run", reference=3)
"""
# Nothing that the two scripts speak of has torch's types, which take minutes to read.
MYPY = """
[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,torchvision.*,accelerate.*,pydantic.*,rich.*,scipy.*,matplotlib.*]
follow_imports = skip
"""


def test_the_list_is_this_one() -> None:
    assert sorted(ddpm_cli.__all__) == ddpm_cli.__all__
    assert ddpm_cli.__all__ == sorted([*CLASSES, *FUNCTIONS, "events"])
    assert set(ddpm_cli.__all__) <= set(dir(ddpm_cli))


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ddpm_cli.trian  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_describes_every_argument_and_what_it_raises(name: str) -> None:
    described(getattr(ddpm_cli, name))


def test_each_class_describes_what_one_meets() -> None:
    for name in CLASSES:
        assert inspect.getdoc(getattr(ddpm_cli, name))
    for name, member in inspect.getmembers(ddpm_cli.Model):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name
    for method in ("sample", "trajectory", "interpolate", "inpaint", "img2img"):
        described(getattr(ddpm_cli.Model, method))


def described(function: object) -> None:
    assert callable(function)
    text = inspect.getdoc(function) or ""
    arguments = [argument for argument in inspect.signature(function).parameters if argument != "self"]
    assert [argument for argument in arguments if f"\n    {argument}: " not in text] == []
    assert "\nRaises:" in text


def test_the_import_alone_costs_nothing_and_a_schedule_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, typing; before = set(sys.modules); import ddpm_cli; print(*sorted(set(sys.modules) - before)); "
        "ddpm_cli.make_schedule('cosine', 10); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["ddpm_cli ddpm_cli._version", "False"], done.stderr


def test_mypy_strict_accepts_a_right_script_and_finds_each_fault_of_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mypy.ini").write_text(MYPY)
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "right.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if " error: " in line]
    assert [line.split(" error: ")[0] for line in found] == [f"wrong.py:{number}:" for number in range(4, 13)], done.stdout
    assert (ROOT / "ddpm_cli" / "py.typed").is_file()
