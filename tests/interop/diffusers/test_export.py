"""Exported folders as diffusers itself loads and samples them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import assert_refused, run_ddpm
from safetensors.torch import load_file, save_file
from torch import Tensor
from trained_models import trained_dit, trained_model

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.config.schema.sample import DdimSampler, DdpmSampler, DpmSolverSampler
from ddpm_cli.errors import DdpmError, RequestError
from ddpm_cli.interop import export
from ddpm_cli.interop.diffusers import export as export_diffusers
from ddpm_cli.interop.diffusers.config import check_expressible, inexpressible, solver_overrides
from ddpm_cli.interop.diffusers.export import WEIGHTS, compare_diffusers, write_diffusers
from ddpm_cli.interop.export_request import ExportOptions, check_request
from ddpm_cli.interop.same_noise import sample_from
from ddpm_cli.results.figure import Figure
from ddpm_cli.runs.directory import create_run, write_info
from ddpm_cli.runs.figures import append_figures
from ddpm_cli.sampling.trained_model import TrainedModel

ODD = (
    "objective.parameterization=v",
    "schedule.kind=cosine",
    "schedule.zero_terminal_snr=true",
    "model.downsample_padding=asymmetric",
    "model.time_frequencies=transformer",
    "model.norm_eps=1e-5",
    "model.attention_resolutions=[8]",
    "model.middle_attention=false",
    "model.attention_heads=2",
    "model.scale_shift_norm=true",
    "sample.threshold=dynamic",
)


def folder_of(model: TrainedModel, path: Path, *, half: bool = False) -> Path:
    folder = path / "exported"
    folder.mkdir()
    write_diffusers(model, folder, "mit", half=half)
    return folder


@pytest.mark.parametrize(
    "sets", [(), ODD, ("objective.parameterization=x0", "sample.threshold=none", "schedule.logsnr_shift=-1"), ("data.augment=0.1",)]
)
def test_diffusers_makes_the_same_of_it(sets: tuple[str, ...], tmp_path: Path) -> None:
    model = trained_model(*sets)
    found = compare_diffusers(model, folder_of(model, tmp_path), images=True)
    assert [comparison.what.split(",")[0] for comparison in found] == [
        "prediction",
        "images of DDPM",
        "images of DDIM",
        "images of DPM-Solver++",
    ]
    assert all(comparison.holds for comparison in found), found


@pytest.mark.parametrize("variance", ["auto", "fixed-small", "fixed-large"])
def test_the_pipelines_draw_our_images_when_called_as_the_card_says(variance: str, tmp_path: Path) -> None:
    from diffusers import DDIMPipeline, DDPMPipeline, DPMSolverMultistepScheduler

    model = trained_model(f"sample.sampler.variance={variance}")
    folder = folder_of(model, tmp_path)
    ddpm, ddim = (kind.from_pretrained(folder, local_files_only=True) for kind in (DDPMPipeline, DDIMPipeline))
    assert ddpm.scheduler.config.variance_type == ("fixed_large" if variance == "fixed-large" else "fixed_small")
    solver = DDPMPipeline.from_pretrained(folder, local_files_only=True)
    solver.scheduler = DPMSolverMultistepScheduler.from_config(ddpm.scheduler.config, **solver_overrides(model.config.sample))
    for pipeline, sampler, steps, extra in (
        (ddpm, DdpmSampler(variance=variance), 12, {}),  # type: ignore[arg-type]  # of pytest's parameter
        (ddim, DdimSampler(steps=6), 6, {"use_clipped_model_output": True}),
        (solver, DpmSolverSampler(steps=6), 6, {}),
    ):
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline(2, torch.Generator().manual_seed(5), num_inference_steps=steps, output_type="np", **extra).images
        draws = torch.Generator().manual_seed(5)

        def noise(draws: torch.Generator = draws) -> Tensor:
            return torch.randn(2, *model.image_shape, generator=draws)

        ours = (sample_from(model, sampler, noise(), noise) / 2 + 0.5).clamp(0, 1)
        assert ours.std() > 0.1
        assert torch.allclose(torch.from_numpy(drawn).permute(0, 3, 1, 2), ours, rtol=0, atol=5e-4), type(pipeline.scheduler)


def test_a_folder_that_says_something_else_is_seen(tmp_path: Path) -> None:
    model = trained_model()
    folder = folder_of(model, tmp_path)
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] += 0.1
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert not any(comparison.holds for comparison in compare_diffusers(model, folder, images=True))


def test_half_precision_is_in_the_file_and_its_metadata(tmp_path: Path) -> None:
    from ddpm_cli.interop.half import rounded

    model, rounding = rounded(trained_model())
    assert 0 < rounding < 0.01
    folder = folder_of(model, tmp_path, half=True)
    assert {weight.dtype for weight in load_file(folder / WEIGHTS).values()} == {torch.float16}
    assert b'"ddpm_dtype":"float16"' in (folder / WEIGHTS).read_bytes()
    (comparison,) = compare_diffusers(model, folder, images=False)
    assert comparison.holds


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ("model.stem=2", "no space-to-depth stem"),
        ("model.num_classes=3", "no class labels"),
        ("model.channel_mult=[2,4]", "as many channels as the first level"),
        ("model.norm_groups=16", "one number of groups"),
        ("model.channel_mult=[1,2,2]", "does not pad images of 8x10"),
        ("objective.parameterization=edm", 'no parameterization "edm"'),
        ("objective.loss=hybrid", "no learned variance"),
    ],
)
def test_what_diffusers_cannot_express_is_refused_with_the_reason(sets: str, reason: str) -> None:
    model = trained_model(sets, shape=(1, 8, 10))
    with pytest.raises(RequestError, match=reason) as caught:
        check_expressible(model.config, model.image_shape)
    assert "--preset fashion-mnist-gpu or paper-cifar10" in str(caught.value)


@pytest.mark.parametrize(
    "sets", [("data.augment=0.1",), ("model.num_classes=3", "objective.parameterization=v", "schedule=cosine")]
)
def test_diffusers_makes_the_same_of_a_transformer(sets: tuple[str, ...], tmp_path: Path) -> None:
    model = trained_dit(*sets)
    found = compare_diffusers(model, folder_of(model, tmp_path), images=True)
    assert len(found) == 4
    assert all(comparison.holds for comparison in found), found


def test_the_lines_of_the_card_draw_our_images_of_a_transformer_with_diffusers_alone(tmp_path: Path) -> None:
    model = trained_dit("model.num_classes=3")
    folder = folder_of(model, tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    program = lines.replace("FOLDER", str(folder)).replace("import torch\n", "import sys, torch\ntorch.manual_seed(5)\n", 1)
    program += "\nassert not any(name.startswith('ddpm') for name in sys.modules)\ntorch.save(x, sys.argv[1])\n"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.pt")], check=True, cwd=tmp_path, timeout=120)
    noise = torch.randn(4, *model.image_shape, generator=torch.Generator().manual_seed(5))
    expected = sample_from(model, DdimSampler(steps=12), noise, lambda: noise, torch.zeros(4, dtype=torch.int64))
    assert expected.std() > 0.1
    torch.testing.assert_close(torch.load(tmp_path / "x.pt"), expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("sets", "shape", "reason"),
    [
        ("model.registers=2", (1, 8, 8), "no registers"),
        ("model.mlp_ratio=2", (1, 8, 8), "4 times as wide"),
        ("model.depth=1", (1, 8, 12), "square images alone, not 8x12"),
        ("objective.loss=hybrid", (1, 8, 8), "no learned variance"),
    ],
)
def test_transformers_that_diffusers_cannot_express_are_refused(sets: str, shape: tuple[int, int, int], reason: str) -> None:
    model = trained_dit(sets, shape=shape)
    with pytest.raises(RequestError, match=reason):
        check_expressible(model.config, model.image_shape)


def test_different_numbers_of_heads_are_refused() -> None:
    model = trained_model("model.attention_resolutions=[8,4]", "model.attention_heads=2")
    assert "one width" in inexpressible(model.config, model.image_shape)[0]


def test_two_presets_can_be_exported() -> None:
    shapes = {"paper-cifar10": (3, 32, 32)}
    able = [name for name in preset_names() if not inexpressible(load_config(preset=name).config, shapes.get(name, (1, 28, 28)))]
    assert able == ["fashion-mnist-gpu", "paper-cifar10"]


def test_the_card_tells_data_metrics_and_licence(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs", "shoes", "run")
    write_info(run, {"created": 1.0, "data": {"name": "my|shoes", "train_images": 1234, "sha256": "ab12"}})
    run.evaluations_folder.mkdir()
    figure = Figure("fcd", "", 3.25, None, {}, {"sampled": "thus"}, 500, "train", "my shoes", "ab12", 0)
    append_figures(run.evaluations_folder, [replace(figure, value=9.5)], "a", 3, True)
    append_figures(run.evaluations_folder, [figure], "b", 3, True)
    append_figures(run.evaluations_folder, [replace(figure, value=1.5)], "c", 4, True)
    model = replace(trained_model(), origin=run.checkpoints_folder / "step-00000003")
    card = (folder_of(model, tmp_path) / "README.md").read_text()
    assert "license: mit\n" in card
    for text in ("# shoes\n", "my\\|shoes", "1,234 training images", "| fcd | 3.25 | 500 | train of my shoes | sampled thus |"):
        assert text in card, card
    assert "9.5" not in card
    assert "1.5" not in card


def test_the_command_writes_nothing_that_diffusers_cannot_express(trained_folder: Path, tmp_path: Path) -> None:
    run = str(trained_folder / "runs" / "tiny")
    done = run_ddpm("export", run, "--format", "diffusers", "--out", "folder", cwd=tmp_path)
    assert_refused(done, "stem", "paper-cifar10")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("diffusers", ExportOptions(), "in the way"),
        ("diffusers", ExportOptions(license_name="a: b"), "licence"),
        ("safetensors", ExportOptions(with_sampler=True), "format onnx"),
        ("onnx", ExportOptions(steps=3), "--with-sampler"),
        ("onnx", ExportOptions(license_name="mit"), "--license"),
        ("pickle", ExportOptions(), "no export format"),
    ],
)
def test_requests_that_make_no_sense_are_refused(kind: str, options: ExportOptions, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(RequestError, match=words):
        check_request(kind, tmp_path, options)


def test_a_folder_that_differs_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "find_model", lambda *_, **__: None)
    monkeypatch.setattr("ddpm_cli.sampling.generate.load_model", lambda *_, **__: trained_model())
    monkeypatch.setattr(export_diffusers, "PREDICTION_TOLERANCE", 0.0)
    with pytest.raises(DdpmError, match="differs") as caught:
        export.export_model(None, "diffusers", tmp_path / "folder")
    assert caught.value.exit_status == 1
    assert list(tmp_path.iterdir()) == []
