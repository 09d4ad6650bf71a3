"""Value for value: what a denoiser says an image is leaves `ddpm sample` so at any depth, and comes back into editing commands.

The denoiser is a stand-in that always answers with one image; all else is the real way from the command to the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_png
from trained_models import trained_model

import ddpm_cli.sampling.generate as generate
from ddpm_cli import load
from ddpm_cli.cli.app import run
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.runs.model_file import read_model_header, save_model_file

TWELVE, SIXTEEN = Scale(0, 4095, "uint16"), Scale(0, 65535, "uint16")
FLOATS, SIGNED = Scale(0.0, 1.0, "float32"), Scale(-1000.0, 3000.0, "float32")
ALL = [TWELVE, SIXTEEN, FLOATS, SIGNED]
SIDES = 64, 64


class Oracle(nn.Module):
    """Predicts one image, whatever it is shown."""

    def __init__(self, x_0: Tensor) -> None:
        super().__init__()
        self.x_0 = nn.Parameter(x_0[None], requires_grad=False)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.x_0.expand_as(x_t)


def ramp(scale: Scale, channels: int = 1) -> NDArray[Any]:
    values = np.linspace(scale.low, scale.high, channels * SIDES[0] * SIDES[1])
    return (values if scale.stored == "float32" else values.round()).astype(scale.stored).reshape(channels, *SIDES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_of(image: NDArray[Any], scale: Scale, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exported model with this scale, whose network is replaced, when it is loaded, by one that predicts the image."""
    trained = trained_model("objective.parameterization=x0", "sample.sampler=ddim", "sample.sampler.steps=3", shape=image.shape)
    object.__setattr__(trained, "scale", scale)
    path = folder / "model.safetensors"
    save_model_file(path, generate.all_weights(trained), generate.model_facts(trained, half=False))
    x_0 = scale.normalise(torch.from_numpy(image))
    monkeypatch.setattr(generate, "load_network", lambda *arguments: Oracle(x_0))
    return path


def ddpm(*arguments: str) -> None:
    """Run the command here, where the denoiser is replaced."""
    assert run(arguments, debug=False) == 0


def read(path: Path) -> NDArray[Any]:
    """By other programs, [C, H, W]."""
    if path.suffix == ".npy":
        return np.load(path).transpose(2, 0, 1)
    if path.suffix == ".png":
        return decode_png(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), ImageReadMode.UNCHANGED).numpy()
    with Image.open(path) as image:
        return np.asarray(image)[None]


def step_of(scale: Scale) -> float:
    """One step of the depth; of floats the rounding of float32 at the ends."""
    return 1.0 if scale.levels else 2e-7 * max(abs(scale.low), abs(scale.high), scale.high - scale.low)


@pytest.mark.parametrize("scale", ALL, ids=str)
def test_a_ramp_leaves_as_it_came(scale: Scale, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    image = ramp(scale)
    model = model_of(image, scale, here, monkeypatch)
    suffix = "tif" if scale.levels is None else "png"
    ddpm("sample", str(model), "--n", "2", "--each", "each", "--out", "grid.png", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["scale"] == {"low": scale.low, "high": scale.high, "stored": scale.stored}
    found = read(here / f"each/1.{suffix}")
    assert found.dtype == image.dtype
    assert float(abs(found.astype(float) - image.astype(float)).max()) <= step_of(scale)
    with Image.open(here / "grid.png") as drawn:
        assert drawn.mode == "L"
        cell = np.asarray(drawn)[2:66, 2:66].astype(float)
    expected = (image[0].astype(float) - scale.low) * 255 / (scale.high - scale.low)
    assert float(abs(cell - expected).max()) <= 0.51


@pytest.mark.parametrize(("channels", "suffix"), [(2, "tif"), (3, "png"), (4, "png"), (5, "tif"), (16, "tif")])
def test_any_number_of_channels_leaves(
    channels: int, suffix: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    image = ramp(SIXTEEN, channels)
    model = model_of(image, SIXTEEN, here, monkeypatch)
    ddpm("sample", str(model), "--n", "1", "--each", "each", "--format", "npy", "--no-preview")
    assert float(abs(read(here / "each/0.npy").astype(float) - image.astype(float)).max()) <= 1
    ddpm("sample", str(model), "--n", "1", "--each", "each", "--trajectory", "way.gif")
    assert (here / f"each/0.{suffix}").is_file()
    if suffix == "png":
        assert float(abs(read(here / "each/0.png").astype(float) - image.astype(float)).max()) <= 1
    with Image.open(here / "samples.png") as drawn:
        assert drawn.mode == ("RGBA" if channels == 4 else "RGB")


@pytest.mark.parametrize("scale", ALL, ids=str)
def test_python_gets_the_stored_values(scale: Scale, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ramp(scale)
    model = load(model_of(image, scale, here, monkeypatch), device="cpu")
    drawn = model.sample(1, progress=False)
    assert (model.scale, drawn.dtype, drawn.shape) == (scale, image.dtype, (1, *SIDES, 1))
    assert float(abs(drawn[0, ..., 0].astype(float) - image[0].astype(float)).max()) <= step_of(scale)
    kept = model.img2img(drawn[0], strength=0.0, progress=False)
    assert float(abs(kept.astype(float) - drawn.astype(float)).max()) <= step_of(scale)
    assert model.scale.view_array(drawn).max() == 255


@pytest.mark.parametrize("scale", ALL, ids=str)
def test_what_sample_wrote_is_read_in_its_range(scale: Scale, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ramp(scale)
    model = model_of(image, scale, here, monkeypatch)
    ddpm("sample", str(model), "--n", "1", "--each", "each")
    (single,) = (here / "each").iterdir()
    out = f"kept{single.suffix}"
    ddpm("img2img", str(single), "--run", str(model), "--strength", "0", "--out", out)
    assert float(abs(read(here / out).astype(float) - image.astype(float)).max()) <= step_of(scale)


def test_a_picture_of_another_depth_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model = model_of(ramp(TWELVE), TWELVE, here, monkeypatch)
    Image.fromarray(np.zeros(SIDES, np.uint8)).save(here / "flat.png")
    Image.fromarray(np.full(SIDES, 5000, np.uint16)).save(here / "bright.png")
    np.save(here / "other.npy", np.zeros((3, 3)))
    for name, words in (("flat.png", "8 bits"), ("bright.png", "4,096 values outside"), ("other.npy", "3x3")):
        assert run(["img2img", name, "--run", str(model)], debug=False) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_format_that_does_not_hold_the_values_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model = model_of(ramp(FLOATS), FLOATS, here, monkeypatch)
    for options, words in (
        (("--each", "each", "--format", "png"), "PNG holds no images with floats. Use tiff or npy."),
        (("--each", "each", "--format", "gif"), "Choose one of png, tiff, npy."),
        (("--format", "png"), "Add --each DIR"),
    ):
        assert run(["sample", str(model), *options], debug=False) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (here / "each").exists()


def test_a_usual_model_says_nothing_of_its_scale(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.arange(64 * 64).astype(np.uint8).reshape(1, *SIDES)
    model = model_of(image, USUAL, here, monkeypatch)
    assert "scale" not in read_model_header(model).metadata
    ddpm("sample", str(model), "--n", "1", "--each", "each")
    np.testing.assert_array_equal(read(here / "each/0.png"), image)
