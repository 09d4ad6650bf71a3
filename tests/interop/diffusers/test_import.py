"""Pipelines of diffusers as runs: the same images, further training, and what is refused."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from command import TINY, Ddpm, assert_refused, run_ddpm
from foreign_models import GOOGLE, pipeline_folder
from safetensors.torch import load_file, save_file

from ddpm_cli.config.schema.sample import DdimSampler
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.errors import DdpmError, RequestError, RunError
from ddpm_cli.experiments.run_list import list_rows
from ddpm_cli.interop.diffusers.config import unet2d_arguments
from ddpm_cli.interop.diffusers.export import compare_diffusers, load_pipeline, sample_diffusers, write_diffusers
from ddpm_cli.interop.import_model import import_model
from ddpm_cli.interop.model_card import model_card
from ddpm_cli.interop.same_noise import sample_from, seeded_noise
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.sampling.diffusers.scheduler import read_scheduler, scheduler_class
from ddpm_cli.sampling.diffusers.weights import WEIGHTS
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.train import resume

TUTORIAL = {  # of diffusers' own training example, whose other values are the defaults
    "sample_size": (28, 28),
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
FORMER_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def as_published_in_2022(folder: Path) -> Path:
    """The same in the layout of google/ddpm-cifar10-32: all files in one folder, links as in the Hub's cache, former names."""
    weights = load_file(folder / "unet" / WEIGHTS)
    for new, former in FORMER_NAMES.items():
        weights = {name.replace(f".{new}.", f".{former}."): weight for name, weight in weights.items()}
    flat = folder.with_name("published")
    flat.mkdir()
    save_file(weights, flat / WEIGHTS, metadata={"format": "pt"})
    for path in (folder / "unet" / "config.json", folder / "scheduler" / "scheduler_config.json"):
        (flat / path.name).symlink_to(path)
    return flat


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("tutorial") / "pipeline", TUTORIAL, num_train_timesteps=20)


def imported(folder: Path, runs: Path) -> TrainedModel:
    return load_trained(import_model(folder, "new", runs=runs / "runs").run, torch.device("cpu"))


def assert_same_images(model: TrainedModel, folder: Path) -> None:
    from diffusers import DDIMScheduler

    pipeline = load_pipeline(folder)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    x_T = seeded_noise((2, *model.image_shape), 3)()
    theirs = sample_diffusers(pipeline.unet, scheduler, 5, x_T, 0, {})
    ours = sample_from(model, DdimSampler(steps=5), x_T, seeded_noise(x_T.shape, 0))
    assert theirs.std() > 0.05
    assert float((ours - theirs).abs().max()) < 1e-4


@pytest.mark.parametrize("scheduler", [{"variance_type": "fixed_large"}, {"prediction_type": "v_prediction", "clip_sample": False}])
def test_a_published_model_makes_the_same_images(scheduler: dict[str, Any], tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path / "pipeline", GOOGLE, **scheduler)
    model = imported(as_published_in_2022(folder), tmp_path)
    assert model.image_shape == (3, 16, 16)
    assert model.config.model.attention_resolutions == (8,)
    assert_same_images(model, folder)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"num_train_timesteps": 50, "beta_schedule": "scaled_linear", "beta_start": 0.002, "beta_end": 0.3},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
        {"num_train_timesteps": 30, "trained_betas": [0.01 * (i + 1) for i in range(30)], "thresholding": True},
    ],
)
def test_a_model_of_the_tutorial_makes_the_same_images(scheduler: dict[str, Any], tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path / "pipeline", TUTORIAL, **scheduler)
    assert_same_images(imported(folder, tmp_path), folder)


SAMPLERS = {  # of diffusers, and the steps that ours take in each
    "DDPMScheduler": ({"variance_type": "fixed_large", "timestep_spacing": "trailing"}, 20),
    "DDIMScheduler": ({"timestep_spacing": "trailing"}, 5),
    "DPMSolverMultistepScheduler": ({"timestep_spacing": "trailing", "thresholding": True}, 5),
    "UniPCMultistepScheduler": ({"timestep_spacing": "trailing"}, 5),
    "EulerDiscreteScheduler": ({"timestep_spacing": "trailing"}, 5),
    "HeunDiscreteScheduler": ({"timestep_spacing": "trailing"}, 5),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_model_is_sampled_as_its_own_scheduler_does(name: str, tmp_path: Path) -> None:
    import diffusers

    options, steps = SAMPLERS[name]
    folder = pipeline_folder(tmp_path / "pipeline", TUTORIAL, num_train_timesteps=20)
    pipeline = load_pipeline(folder)
    # Made from another one, as people do: its file then keeps clip_sample = true, which only DDPM and DDIM read.
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **options)
    pipeline.save_pretrained(folder)
    result = import_model(folder, "new", runs=tmp_path / "runs")
    model = load_trained(result.run, torch.device("cpu"))
    assert result.differences == (), result.differences
    x_T = seeded_noise((2, *model.image_shape), 3)()
    pipeline.scheduler.set_timesteps(steps)
    # Euler and Heun work on x / sqrt(abar), and would start from the noise alone, which is as good only for a large T.
    scale = (1.0 + float(pipeline.scheduler.sigmas.max()) ** 2) ** 0.5 if name.startswith(("Euler", "Heun")) else 1.0
    theirs = run_scheduler(pipeline, scale * x_T)
    ours = sample_from(model, model.config.sample.sampler.model_copy(update={"steps": steps}), x_T, seeded_noise(x_T.shape, 1))
    assert theirs.std() > 0.05
    assert float((ours - theirs).abs().max()) < 1e-4 * max(1.0, float(theirs.abs().max()))


@torch.no_grad()
def run_scheduler(pipeline: Any, x: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    accepts = inspect.signature(pipeline.scheduler.step).parameters
    extra = {"generator": generator} if "generator" in accepts else {}
    for t in pipeline.scheduler.timesteps:
        x_in = pipeline.scheduler.scale_model_input(x, t)
        x = pipeline.scheduler.step(pipeline.unet(x_in, t).sample, t, x, **extra).prev_sample
    return x


def test_clipping_keeps_the_noise_as_diffusers_does_and_can_derive_it(tutorial: Path, tmp_path: Path) -> None:
    kept = imported(tutorial, tmp_path)
    derived = load_trained(
        import_model(tutorial, "derived", runs=tmp_path / "runs", sets=["sample.threshold.eps=derived"]).run, torch.device("cpu")
    )
    x_T = seeded_noise((2, *kept.image_shape), 3)()
    images = [sample_from(model, DdimSampler(steps=5), x_T, seeded_noise(x_T.shape, 0)) for model in (kept, derived)]
    assert float((images[0] - images[1]).abs().max()) > 0.01
    for model, clipped in ((kept, False), (derived, True)):
        (tmp_path / str(clipped)).mkdir()
        write_diffusers(model, tmp_path / str(clipped), "unknown", half=False)
        assert all(comparison.holds for comparison in compare_diffusers(model, tmp_path / str(clipped), images=True))
        assert ("use_clipped_model_output" in model_card(model, "unknown", half=False)) == clipped


def test_weights_of_a_variant_and_in_shards_are_read(tutorial: Path, tmp_path: Path) -> None:
    whole = imported(tutorial, tmp_path).network.state_dict()
    pipeline = load_pipeline(tutorial)
    for name, options, tolerance in (
        ("shards", {"max_shard_size": "200KB"}, 0.0),
        ("half", {"variant": "fp16"}, 1e-3),
        ("half-shards", {"variant": "fp16", "max_shard_size": "200KB"}, 1e-3),
    ):
        pipeline.to(torch.float16 if "variant" in options else torch.float32)
        pipeline.save_pretrained(tmp_path / name, **options)
        result = import_model(tmp_path / name, name, runs=tmp_path / "runs")
        found = load_trained(result.run, torch.device("cpu")).network.state_dict()
        assert max(float((found[key] - weight).abs().max()) for key, weight in whole.items()) <= tolerance
        assert ("fp16" in result.weights) == ("variant" in options)
    shards = sorted((tmp_path / "shards" / "unet").glob("*-of-*"))
    shards[1].unlink()
    with pytest.raises(RequestError, match=f"1 of {len(shards)} files that it names are missing"):
        import_model(tmp_path / "shards", "broken", runs=tmp_path / "runs")


def test_several_variants_are_chosen_from(tutorial: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tutorial, tmp_path / "pipeline")
    usual = folder / "unet" / WEIGHTS
    for variant in ("ema", "fp16"):
        shutil.copy(usual, usual.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    assert import_model(folder, "usual", runs=tmp_path / "runs").weights == WEIGHTS
    usual.unlink()
    with pytest.raises(RequestError, match=r"several sets of weights: ema, fp16\. Choose one: --variant ema"):
        import_model(folder, "none", runs=tmp_path / "runs")
    with pytest.raises(RequestError, match="no weights of the variant bf16, but ema, fp16"):
        import_model(folder, "none", runs=tmp_path / "runs", variant="bf16")
    assert import_model(folder, "ema", runs=tmp_path / "runs", variant="ema").weights.endswith(".ema.safetensors")


def test_a_size_that_is_left_open_is_asked_for(tutorial: Path, tmp_path: Path, ddpm_here: Ddpm) -> None:
    folder = shutil.copytree(tutorial, tmp_path / "pipeline")
    edited(UNET, sample_size=None)(folder)
    assert_refused(ddpm_here("import", str(folder)), "sample_size is null", "--size 32")
    assert_refused(ddpm_here("import", str(folder), "--size", "wide"), "--size must be HxW")
    assert_refused(ddpm_here("import", str(folder), "--size", "0"), "leaves no image")
    done = ddpm_here("import", str(folder), "--size", "28x20", "--name", "sized", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["image_shape"] == [1, 28, 20]
    assert ddpm_here("sample", "sized", "--n", "2", "--steps", "2", "--out", "grid.png").returncode == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "PNDMScheduler", "beta_schedule": "linear"}, "PNDMScheduler, which is none of the samplers here"),
        ({"steps_offset": 1}, "steps_offset = 1"),
        ({"timestep_spacing": "leading"}, "every list begins at T-1"),
        ({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}, "set_alpha_to_one = False"),
        ({"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "linspace"}, "trailing steps are the nearest"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}, "algorithm_type is dpmsolver"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "solver_order is 3"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_type": "heun"}, "solver_type = heun"),
        ({"_class_name": "UniPCMultistepScheduler", "predict_x0": False}, "predict_x0 = False"),
    ],
)
def test_what_is_sampled_otherwise_is_told(changes: dict[str, Any], words: str) -> None:
    scheduler = {"_class_name": "DDPMScheduler", "timestep_spacing": "trailing"} | changes
    _, differences = read_scheduler(scheduler, scheduler_class(scheduler, {}, Path("s.json")), Path("s.json"))
    assert len(differences) == 1
    assert words in differences[0]


def test_what_is_told_reaches_the_user(tutorial: Path, tmp_path: Path, ddpm_here: Ddpm) -> None:
    folder = shutil.copytree(tutorial, tmp_path / "pipeline")
    edited(SCHEDULER, steps_offset=1)(folder)
    done = ddpm_here("import", str(folder), "--json")
    assert "steps_offset = 1" in " ".join(done.stderr.split())
    assert any("steps_offset = 1" in told for told in json.loads(done.stdout)["differences"])


def test_the_index_of_a_pipeline_says_which_scheduler_samples() -> None:
    own, source = {"_class_name": "DDPMScheduler"}, Path("s.json")
    assert scheduler_class(own, {}, source) == "DDPMScheduler"
    assert scheduler_class(own, {"scheduler": ["diffusers", "UniPCMultistepScheduler"]}, source) == "UniPCMultistepScheduler"
    index = {"_class_name": "DDIMPipeline", "scheduler": ["diffusers", "DDPMScheduler"]}
    assert scheduler_class(own, index, source) == "DDIMScheduler"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": True}, "logsnr"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "linspace"}, "linspace"),
        ({"_class_name": "EulerDiscreteScheduler"}, "linspace"),
        ({"_class_name": "DDPMScheduler"}, "leading"),
    ],
)
def test_the_spacing_is_kept(changes: dict[str, Any], expected: str) -> None:
    settings, _ = read_scheduler(changes, changes["_class_name"], Path("s.json"))
    assert settings["sample.sampler.spacing.kind"] == expected


def test_a_model_goes_there_and_back(tutorial: Path, tmp_path: Path) -> None:
    model = imported(tutorial, tmp_path)
    (tmp_path / "back").mkdir()
    write_diffusers(model, tmp_path / "back", "unknown", half=False)
    assert all(comparison.holds for comparison in compare_diffusers(model, tmp_path / "back", images=True))
    again = load_trained(import_model(tmp_path / "back", "again", runs=tmp_path / "runs").run, torch.device("cpu"))
    ours, theirs = model.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_card_of_an_imported_model_claims_no_training_of_ours(tutorial: Path, tmp_path: Path) -> None:
    model = imported(tutorial, tmp_path)
    card = model_card(model, "unknown", half=False)
    assert f"imported from a pipeline of diffusers ({tutorial.name})" in card
    assert "trained on is not known" in card
    assert not any(claim in card for claim in ("Trained on", "by `ddpm`", "EMA"))
    assert "trained further for 7 steps by `ddpm`" in model_card(replace(model, step=7), "unknown", half=False)


def test_the_command_imports_samples_and_trains_further(tutorial: Path, tmp_path: Path) -> None:
    small = [option for option in TINY if "model." not in option and "data" not in option and "batch" not in option]
    sets = ["--set=train.batch_size=4", *small]
    done = run_ddpm("import", str(tutorial), "--name", "new", "--data", "fashion-mnist-10k", "--json", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["run"], told["image_shape"], told["data"]) == ("runs/new", [1, 28, 28], "fashion-mnist-10k")
    before = load_trained(tmp_path / "runs" / "new", torch.device("cpu")).network.state_dict()
    done = run_ddpm("resume", "new", "--steps", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = load_trained(tmp_path / "runs" / "new", torch.device("cpu"))
    assert after.step == 2
    moved = max(float((after.network.state_dict()[name] - weight).abs().max()) for name, weight in before.items())
    assert 0 < moved < 0.01
    assert run_ddpm("sample", "new", "--n", "2", "--steps", "2", "--out", "grid.png", cwd=tmp_path).returncode == 0


def test_without_data_it_cannot_be_trained_and_other_data_do_not_fit(tutorial: Path, tmp_path: Path) -> None:
    run = import_model(tutorial, None, runs=tmp_path / "runs").run
    assert run.name == "imported-001"
    (row,) = list_rows(tmp_path / "runs")
    assert (row.state, row.data) == ("imported", "")
    with pytest.raises(RunError, match="imported without data"):
        resume(run, runs=tmp_path / "runs")
    google = pipeline_folder(tmp_path / "google", GOOGLE)
    with pytest.raises(RequestError, match="16x16 with 3 channels"):
        import_model(google, "other", data={"data.kind": ("fashion-mnist-10k", "--data")}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs" / "other").exists()


def edited(name: str, **values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def with_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "unet" / WEIGHTS)
        change(weights)
        save_file(weights, folder / "unet" / WEIGHTS)

    return edit


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


@pytest.mark.usefixtures("cost")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda folder: (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin"),
            "no file of torch.save",
        ),
        (lambda folder: (folder / "unet" / WEIGHTS).unlink(), "missing"),
        (lambda folder: (folder / SCHEDULER).unlink(), "no scheduler_config.json"),
        (lambda folder: (folder / UNET).write_text("[" * 100_000), "nested too deeply"),
        (lambda folder: (folder / "unet" / WEIGHTS).write_bytes(b"\xff" * 100), "no safetensors file"),
        (edited(UNET, _class_name="UNet2DConditionModel"), "UNet2DConditionModel"),
        (edited(UNET, block_out_channels=[2**19, 2**19]), "model.base_channels"),
        (edited(UNET, block_out_channels=[16384, 16384]), "another architecture"),
        (edited(UNET, block_out_channels=[64, 64]), "another architecture"),
        (edited(UNET, block_out_channels="wide"), "how large"),
        (edited(UNET, sample_size=None), "sample_size is null"),
        (edited(UNET, sample_size=[28, None]), "how large"),
        (edited(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler", beta_schedule="none"), "beta_schedule is none"),
        (edited(SCHEDULER, _class_name="DDPMScheduler", clip_sample_range=2.0), "clip_sample_range is 2.0"),
        (edited(UNET, sample_size=[65536, 65536]), "65536x65536"),
        (edited(UNET, sample_size=27), "cannot be halved"),
        (edited(UNET, layers_per_block=3), "another architecture"),
        (edited(UNET, center_input_sample=True), "center_input_sample is True"),
        (edited(UNET, time_embedding_type="fourier"), "time_embedding_type is fourier"),
        (edited(UNET, num_class_embeds=10), "num_class_embeds"),
        (edited(UNET, down_block_types=["SkipDownBlock2D", "DownBlock2D"]), "SkipDownBlock2D"),
        (edited(UNET, up_block_types=["UpBlock2D", "UpBlock2D"]), "mirror"),
        (edited(UNET, out_channels=2), "makes 2 channels of 1"),
        (edited(UNET, resnet_time_scale_shift="scale_shift"), "middle attention"),
        (edited(UNET, norm_eps=float("nan")), "norm_eps"),
        (edited(SCHEDULER, prediction_type="flow"), "prediction_type is flow"),
        (edited(SCHEDULER, variance_type="learned_range"), "learned_range"),
        (edited(SCHEDULER, beta_schedule="laplace"), "laplace"),
        (edited(SCHEDULER, num_train_timesteps=10**30), "schedule"),
        (edited(SCHEDULER, beta_start="a"), "schedule"),
        (edited(SCHEDULER, trained_betas=[2.0] * 20), "Betas must be"),
        (edited(SCHEDULER, trained_betas="all"), "schedule.betas"),
        (edited(SCHEDULER, trained_betas=[0.1]), "1 values"),
        (with_weights(lambda weights: weights.pop("conv_out.bias")), "conv_out.bias is missing"),
        (with_weights(lambda weights: weights.update(more=torch.zeros(1))), "more is not part of it"),
        (with_weights(lambda weights: weights["conv_in.weight"].fill_(torch.nan)), "not finite"),
    ],
)
def test_a_strangers_folder_is_refused_and_nothing_is_written(
    spoil: Callable[[Path], None], words: str, tutorial: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tutorial, tmp_path / "pipeline")
    spoil(folder)
    with pytest.raises(DdpmError, match=words) as caught:
        import_model(folder, "new", runs=tmp_path / "runs")
    assert caught.value.exit_status == 2
    assert caught.value.remedy
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_pickled_weights_makes_the_same_images(tutorial: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tutorial, tmp_path / "pipeline")
    weights = load_file(folder / "unet" / WEIGHTS)
    torch.save(weights, folder / "unet" / "diffusion_pytorch_model.bin")
    assert import_model(folder, "both", runs=tmp_path / "runs").weights == WEIGHTS
    (folder / "unet" / WEIGHTS).unlink()
    result = import_model(folder, "pickled", runs=tmp_path / "runs")
    assert result.weights == "diffusion_pytorch_model.bin"
    assert_same_images(load_trained(result.run, torch.device("cpu")), tutorial)


def test_heads_of_one_width_in_levels_of_different_channels_make_the_same_images(tmp_path: Path) -> None:
    kinds = {"down_block_types": ("AttnDownBlock2D",) * 2, "up_block_types": ("AttnUpBlock2D",) * 2}
    folder = pipeline_folder(tmp_path / "pipeline", TUTORIAL | kinds | {"block_out_channels": (32, 64)}, num_train_timesteps=20)
    model = imported(folder, tmp_path)
    assert model.config.model.attention_head_channels == 8
    assert_same_images(model, folder)
    assert unet2d_arguments(model.config.model, model.image_shape)["attention_head_dim"] == 8


def test_a_scheduler_without_betas_is_refused() -> None:
    with pytest.raises(RequestError, match="FlowMatchLCMScheduler, which does not say by which betas"):
        read_scheduler({"num_train_timesteps": 1000, "shift": 3.0}, "FlowMatchLCMScheduler", Path("s.json"))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    assert_refused(run_ddpm("import", "absent", cwd=tmp_path), "no folder absent")
    with pytest.raises(RequestError, match="no pipeline"):
        import_model(tmp_path, "new", runs=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_an_import_says_which_images_took_the_place_of_those_asked_for(
    tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, path: Path, md5: str) -> None:
        raise URLError("no network in this test")

    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "fetch", unreachable)
    events: list[Event] = []
    made = import_model(tutorial, "a", data={"data.kind": ("fashion-mnist", "--data")}, runs=tmp_path, on_event=events.append)
    assert made.data == "fashion-mnist-10k"
    assert 'kind = "fashion-mnist-10k"' in (tmp_path / "a" / "config.toml").read_text()
    assert any(isinstance(event, Notice) and "THIS RUN USES 10,000 IMAGES" in event.message for event in events)
