"""Checkpoints of other programs as runs: the same predictions and images from the same noise, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import assert_refused, run_ddpm
from peer_networks import OpenAiNetwork, OpenAiSize, PytorchDdpmNetwork, randomise
from torch import Tensor, nn

from ddpm_cli.build.network import build_network
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.sample import DdimSampler, DdpmSampler
from ddpm_cli.core.compute.weights import check_weights
from ddpm_cli.core.io import pickled_weights, pickled_weights_process
from ddpm_cli.core.io.pickled_weights import PickledWeights
from ddpm_cli.errors import CheckpointError, DataError, DdpmError, RequestError
from ddpm_cli.interop.import_model import import_model
from ddpm_cli.interop.peers import find
from ddpm_cli.interop.peers.flags import read_flags
from ddpm_cli.interop.peers.small_diffusion import read_small_diffusion
from ddpm_cli.interop.same_noise import sample_from, seeded_noise
from ddpm_cli.results.events import ignore
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.sampling.trained_model import TrainedModel

T = 100
SMALL_FLAGS = "--in_dim 16 --scaled True --schedule"
OPENAI_FLAGS = f"--image_size 16 --num_heads 2 --diffusion_steps {T} --noise_schedule linear --rescale_timesteps True"


@pytest.fixture(autouse=True)
def _read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, which has torch already; tests/core/io/test_pickled_weights.py has the other one."""

    def answer(command: Sequence[str], seconds: float) -> dict[str, Any]:
        path, out, skip = command[-3:]
        return pickled_weights_process.main(Path(path), Path(out), json.loads(skip))

    monkeypatch.setattr(pickled_weights_process, "set_bounds", lambda size: True)
    monkeypatch.setattr(pickled_weights, "read_apart", answer)


def saved(path: Path, found: object) -> Path:
    torch.save(found, path)
    return path


def imported(file: Path, flags: str | None, **options: Any) -> TrainedModel:
    return load_trained(import_model(file, "new", runs=file.parent / "runs", flags=flags, **options).run, torch.device("cpu"))


@torch.no_grad()
def difference(model: TrainedModel, theirs: nn.Module, scale: float = 1.0, classes: int | None = None) -> float:
    """Between what both networks say of random images at each of four steps, of outputs with a spread of about 1."""
    draws = torch.Generator().manual_seed(3)
    x, t = torch.randn(4, *model.image_shape, generator=draws), torch.tensor([0, 7, T // 2, T - 1])
    labels = () if classes is None else (torch.randint(classes, (4,), generator=draws),)
    wanted = theirs(x, t if scale == 1 else t * scale, *labels)
    assert wanted.std() > 0.05
    return float((model.network(x, t, *labels) - wanted).abs().max())


@torch.no_grad()
def ancestral(predict: Any, betas: np.ndarray, variances: np.ndarray, x: Tensor, noise: Any, *, clip: bool) -> Tensor:
    """Ho et al. 2020, Alg. 2, by its own formulas in float64."""
    alpha_bar = np.cumprod(1 - betas)
    x = x.double()
    for t in reversed(range(len(betas))):
        eps = predict(x.float(), torch.full((len(x),), t)).double()
        x_0 = (x - np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(alpha_bar[t])
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        before = alpha_bar[t - 1] if t else 1.0
        mean = (np.sqrt(before) * betas[t] * x_0 + np.sqrt(1 - betas[t]) * (1 - before) * x) / (1 - alpha_bar[t])
        x = mean + np.sqrt(variances[t]) * noise() if t else mean
    return x


def trained_a_little(network: nn.Module, steps: int = 3) -> None:
    """A few steps of L_simple, so that no layer is as it was made."""
    randomise(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    draws = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x, eps = (torch.randn(2, 3, 16, 16, generator=draws) for _ in range(2))
        t = torch.randint(T, (2,), generator=draws)
        loss = (network(0.7 * x + 0.7 * eps, t) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


OPENAI: Mapping[str, tuple[OpenAiSize, str]] = {
    "improved": (OpenAiSize(), OPENAI_FLAGS),
    "added": (OpenAiSize(scale_shift=False, blocks=2, mult=(1, 2, 2), rates=(4,)), OPENAI_FLAGS),
    "learned": (OpenAiSize(out=6, rates=()), f"{OPENAI_FLAGS} --learn_sigma True --class_cond False"),
    "grey": (OpenAiSize(images=1, out=1, heads=1), OPENAI_FLAGS.replace("heads 2", "heads 1")),
    "guided": (
        OpenAiSize(head_channels=16, residual=True, new_order=True, out=6, classes=5, rates=(1, 2)),
        OPENAI_FLAGS.replace("--num_heads 2", "--num_head_channels 16 --use_new_attention_order True --resblock_updown True"),
    ),
}


@pytest.mark.parametrize("name", OPENAI)
def test_a_network_of_openai_predicts_the_same(name: str, tmp_path: Path) -> None:
    size, flags = OPENAI[name]
    theirs = OpenAiNetwork(size).eval()
    randomise(theirs)
    model = imported(saved(tmp_path / "model.pt", theirs.state_dict()), flags)
    assert difference(model, theirs, scale=1000 / T, classes=size.classes) < 1e-5
    assert model.num_classes == size.classes
    assert model.config.sample.sampler.variance == ("learned-range" if size.out == 6 else "fixed-large")


def test_a_network_of_openai_draws_the_same_images(tmp_path: Path) -> None:
    theirs = OpenAiNetwork(OpenAiSize())
    trained_a_little(theirs)
    model = imported(saved(tmp_path / "ema_0.9999_000003.pt", theirs.state_dict()), OPENAI_FLAGS)
    betas = np.linspace(1e-4 * 1000 / T, 0.02 * 1000 / T, T)
    alpha_bar = np.cumprod(1 - betas)
    large = np.append(betas[1] * (1 - alpha_bar[0]) / (1 - alpha_bar[1]), betas[1:])
    x_T = seeded_noise((2, 3, 16, 16), 5)()
    wanted = ancestral(lambda x, t: theirs(x, t * 1000 / T), betas, large, x_T, seeded_noise(x_T.shape, 6), clip=True)
    ours = sample_from(model, model.config.sample.sampler, x_T, seeded_noise(x_T.shape, 6))
    assert wanted.std() > 0.05
    assert float((ours - wanted).abs().max()) < 1e-4


def test_a_learned_variance_draws_the_same_images(tmp_path: Path) -> None:
    theirs = OpenAiNetwork(OpenAiSize(out=6, classes=4)).eval()
    randomise(theirs)
    flags = OPENAI_FLAGS.replace("linear", "cosine")
    model = imported(saved(tmp_path / "model.pt", theirs.state_dict()), flags)
    s, places = 0.008, np.arange(T + 1) / T
    alpha_bar = np.cos((places + s) / (1 + s) * np.pi / 2) ** 2
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    x, labels, noise = seeded_noise((2, 3, 16, 16), 5)(), torch.tensor([3, 1]), seeded_noise((2, 3, 16, 16), 6)
    wanted, bars = x.double(), np.cumprod(1 - betas)
    with torch.no_grad():
        for t in reversed(range(T)):
            eps, share = theirs(wanted.float(), torch.full((2,), t) * 1000 / T, labels).double().chunk(2, dim=1)
            x_0 = ((wanted - np.sqrt(1 - bars[t]) * eps) / np.sqrt(bars[t])).clamp(-1, 1)
            before = bars[t - 1] if t else 1.0
            mean = (np.sqrt(before) * betas[t] * x_0 + np.sqrt(1 - betas[t]) * (1 - before) * wanted) / (1 - bars[t])
            small = betas[max(t, 1)] * (1 - bars[max(t, 1) - 1]) / (1 - bars[max(t, 1)])
            log_variance = (share + 1) / 2 * np.log(betas[t]) + (1 - share) / 2 * np.log(small)
            wanted = mean + (0.5 * log_variance).exp() * noise() if t else mean
    ours = sample_from(model, model.config.sample.sampler, x, seeded_noise(x.shape, 6), labels)
    assert float((ours - wanted).abs().max()) < 1e-4


@pytest.fixture(scope="module")
def ho(tmp_path_factory: pytest.TempPathFactory) -> tuple[PytorchDdpmNetwork, PytorchDdpmNetwork, Path]:
    torch.manual_seed(0)
    trained, averaged = (PytorchDdpmNetwork(T, 32, (1, 2, 2), (1,), 1) for _ in range(2))
    trained_a_little(trained)
    randomise(averaged.eval(), seed=7)
    state = {
        "net_model": trained.state_dict(),
        "ema_model": averaged.state_dict(),
        "sched": torch.optim.lr_scheduler.LambdaLR(torch.optim.Adam(trained.parameters()), lambda step: 1.0).state_dict(),
        "optim": torch.optim.Adam(trained.parameters()).state_dict(),
        "step": 3,
        "x_T": torch.zeros(2, 3, 16, 16),
    }
    return trained, averaged, saved(tmp_path_factory.mktemp("ho") / "ckpt.pt", state)


def test_a_checkpoint_of_pytorch_ddpm_predicts_the_same(
    ho: tuple[PytorchDdpmNetwork, PytorchDdpmNetwork, Path], tmp_path: Path
) -> None:
    trained, averaged, file = ho
    result = import_model(file, "averaged", runs=tmp_path)
    assert result.image_shape == (3, 16, 16)  # of its x_T
    assert "0.0001 to 0.02" in result.differences[0]
    assert difference(load_trained(result.run, torch.device("cpu")), averaged) < 1e-5
    run = import_model(file, "trained", runs=tmp_path, which="model", flags="--attn=1 --ch_mult=1 --ch_mult=2 --ch_mult=2").run
    assert difference(load_trained(run, torch.device("cpu")), trained) < 1e-5


def test_a_checkpoint_of_pytorch_ddpm_draws_the_same_images(
    ho: tuple[PytorchDdpmNetwork, PytorchDdpmNetwork, Path], tmp_path: Path
) -> None:
    trained, _, file = ho
    flags = "--beta_1=0.001 --beta_T=0.2 --var_type=fixedsmall"
    run = import_model(file, "new", runs=tmp_path, which="model", flags=flags).run
    model = load_trained(run, torch.device("cpu"))
    betas = np.linspace(0.001, 0.2, T)
    alpha_bar = np.cumprod(1 - betas)
    small = betas * (1 - np.append(1.0, alpha_bar[:-1])) / (1 - alpha_bar)
    x_T = seeded_noise((2, 3, 16, 16), 5)()
    wanted = ancestral(trained, betas, small, x_T, seeded_noise(x_T.shape, 6), clip=False)
    ours = sample_from(model, DdpmSampler(variance="fixed-small"), x_T, seeded_noise(x_T.shape, 6))
    assert model.config.sample.sampler.variance == "fixed-small"
    assert wanted.std() > 0.05
    assert float((ours - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())


def test_a_network_of_smalldiffusion_draws_the_same_images(tmp_path: Path) -> None:
    from smalldiffusion import Scaled, ScheduleCosine, ScheduleDDPM, ScheduleLogLinear, Unet, samples

    theirs = Scaled(Unet)(16, 1, 1, ch=32, ch_mult=(1, 2), attn_resolutions=(8,)).eval()
    randomise(theirs)
    file = saved(tmp_path / "model.pth", theirs.state_dict())
    schedules = {
        "--schedule ScheduleDDPM --N 1000": ScheduleDDPM(1000),
        "--schedule ScheduleLogLinear --N 200 --sigma_max 20": ScheduleLogLinear(200, sigma_max=20),
        "--schedule ScheduleCosine --N 100 --max_beta 0.5": ScheduleCosine(100, max_beta=0.5),
    }
    for place, (flags, schedule) in enumerate(schedules.items()):
        run = import_model(file, str(place), runs=tmp_path / "runs", flags=f"--in_dim 16 --scaled True {flags}").run
        model = load_trained(run, torch.device("cpu"))
        levels = schedule.sample_sigmas(5)[:-1]
        x_T = seeded_noise((2, 1, 16, 16), 5)()
        *_, wanted = samples(theirs, torch.cat([levels, torch.zeros(1)]), xt=x_T * (1 + levels[0] ** 2).sqrt())
        ours = sample_from(model, DdimSampler(steps=5), x_T, seeded_noise(x_T.shape, 6))
        assert wanted.std() > 0.05
        assert float((ours - wanted).abs().max()) < 1e-4 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("schedule", "idle", "fitting"),
    [
        ("ScheduleDDPM", "--sigma_max", "--beta_start and --beta_end"),
        ("ScheduleLDM", "--sigma_min", "--beta_start and --beta_end"),
        ("ScheduleSigmoid", "--max_beta", "--beta_start and --beta_end"),
        ("ScheduleCosine", "--beta_end", "--max_beta"),
        ("ScheduleLogLinear", "--beta_start", "--sigma_min and --sigma_max"),
    ],
)
def test_arguments_of_another_schedule_of_smalldiffusion_are_refused(schedule: str, idle: str, fitting: str) -> None:
    from smalldiffusion import Unet

    weights = Unet(16, 1, 1, ch=32, ch_mult=(1,)).state_dict()
    flags = read_flags(f"--in_dim 16 --N 9 --scaled True --schedule {schedule} {idle} 0.1")
    with pytest.raises(RequestError, match=f"names {idle}, which {schedule} has no use for") as caught:
        read_small_diffusion(weights, flags, None, Path("model.pth"))
    assert f"--N and {fitting}." in caught.value.remedy


def test_a_flag_of_0_is_no_flag_that_is_missing() -> None:
    from smalldiffusion import Unet

    weights = Unet(16, 1, 1, ch=32, ch_mult=(1,)).state_dict()
    flags = read_flags("--in_dim 16 --N 9 --scaled True --schedule ScheduleDDPM --beta_start 0")
    assert read_small_diffusion(weights, flags, None, Path("model.pth")).settings["schedule.beta_start"] == 0


def test_denoising_diffusion_pytorch_is_refused_by_the_name_of_each_layer(tmp_path: Path) -> None:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    diffusion = GaussianDiffusion(Unet(8, dim_mults=(1, 2)), image_size=8, timesteps=10)
    state = {"step": 1, "model": diffusion.state_dict(), "opt": {}, "ema": {"initted": torch.tensor(True)}, "version": "2.3.4"}
    with pytest.raises(RequestError, match=r"RMSNorm.*linear attention \(model.downs.0.2") as caught:
        import_model(saved(tmp_path / "model-1.pt", state), "new", runs=tmp_path / "runs")
    assert "7x7 pixels (model.init_conv.weight)" in caught.value.message
    assert not (tmp_path / "runs").exists()


class Harmless:
    """Is written as a pickle that would make one of it, which no reader may."""


def without(weights: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name not in names}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (None, "--image_size.*--num_heads.*--diffusion_steps.*--noise_schedule"),
        ("--image_size 16 --num_heads 2 --diffusion_steps 100 --noise_schedule linear", "--rescale_timesteps"),
        (f"{OPENAI_FLAGS} --num_channels 64", "--num_channels 64, but the weights"),
        (f"{OPENAI_FLAGS} --class_cond True", "--class_cond"),
        (f"{OPENAI_FLAGS} --attention_resolutions 16", "--attention_resolutions 16"),
        (f"{OPENAI_FLAGS} --learn_sigma True", "--learn_sigma"),
        (f"{OPENAI_FLAGS} --num_heads_upsample 1", "num_heads_upsample"),
        (f"{OPENAI_FLAGS} --num_head 4", "--num_head, which"),
        (f"{OPENAI_FLAGS} --noise_schedule sqrt", "linear or cosine"),
        (OPENAI_FLAGS.replace("heads 2", "heads 3"), "--num_heads 3, but the weights"),
        (OPENAI_FLAGS.replace("heads 2", "heads two"), "whole number"),
        (OPENAI_FLAGS.replace("steps 100", "steps 0"), "whole number above 0"),
        ("image_size 16", "name of a flag"),
        ("--image_size '16", "cannot be read"),
    ],
)
def test_flags_that_do_not_do_are_refused(flags: str | None, words: str, openai_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DdpmError, match=words) as caught:
        import_model(openai_file, "new", runs=tmp_path / "runs", flags=flags)
    assert caught.value.exit_status == 2
    assert caught.value.remedy
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def openai_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("openai") / "model.pt", OpenAiNetwork(OpenAiSize()).state_dict())


def openai(**size: Any) -> dict[str, Tensor]:
    return OpenAiNetwork(OpenAiSize(**size)).state_dict()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            lambda: without(openai(), "input_blocks.1.0.emb_layers.1.weight"),
            "lacks the weight input_blocks.1.0.emb_layers.1.weight",
        ),
        (lambda: without(openai(), "out.0.bias"), "norm_out.bias is missing"),
        (lambda: openai() | {"more.weight": torch.zeros(1)}, "more.weight is not part"),
        (lambda: openai(images=6), "SuperResModel"),
        (lambda: {name: w for name, w in openai().items() if "output_blocks" not in name}, "classifier"),
        (lambda: {name: w for name, w in openai().items() if "input_blocks.2." not in name}, "conv_resample=False"),
        (lambda: openai() | {"time_embed.2.bias": torch.full((128,), torch.nan)}, "not finite"),
        (lambda: {"weight": torch.zeros(2, 3)}, r"weight \[2, 3\]"),
        (lambda: {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(1)}, "diffusers model"),
        (lambda: {"step": 3}, "no tensors"),
        (lambda: {"model": openai(), "what": Harmless()}, "Harmless, which could run code"),
    ],
)
def test_files_that_are_none_of_ours_are_refused(found: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DdpmError, match=words) as caught:
        import_model(saved(tmp_path / "model.pt", found()), "new", runs=tmp_path / "runs", flags=OPENAI_FLAGS)
    assert caught.value.exit_status == 2
    assert caught.value.remedy
    assert not (tmp_path / "runs").exists()


def test_options_that_fit_no_file_are_refused(openai_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="one set of weights"):
        import_model(openai_file, "new", runs=tmp_path, which="ema", flags=OPENAI_FLAGS)
    with pytest.raises(RequestError, match="no variants"):
        import_model(openai_file, "new", runs=tmp_path, variant="fp16")
    with pytest.raises(RequestError, match="--flags is for a file"):
        import_model(tmp_path, "new", runs=tmp_path, flags="--T 1000")
    file = saved(tmp_path / "classes.pt", openai(classes=7, images=1, out=1))
    shape = OPENAI_FLAGS.replace("size 16", "size 28")
    data = {"data.kind": ("fashion-mnist-10k", "--data")}
    with pytest.raises(DataError, match="7 classes"):
        import_model(file, "new", runs=tmp_path, flags=shape, data=data)


def test_the_command_makes_a_run_that_samples(openai_file: Path, tmp_path: Path) -> None:
    done = run_ddpm("import", str(openai_file), "--name", "theirs", "--flags", OPENAI_FLAGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "images of 16x16" in done.stderr
    drawn = run_ddpm("sample", "runs/theirs", "--n", "2", "--sampler", "ddim", "--steps", "2", "--out", "a.png", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert_refused(run_ddpm("import", str(openai_file), cwd=tmp_path), "--num_heads")
    (tmp_path / "plain.pt").write_bytes(b"\x80\x04N.")
    with pytest.raises(CheckpointError, match="pickle, which can run code"):
        import_model(tmp_path / "plain.pt", "new", runs=tmp_path)


def damaged(weights: dict[str, Tensor], dice: random.Random) -> dict[str, Tensor]:
    """With a weight or two left out, renamed, or of another shape."""
    found = dict(weights)
    for _ in range(dice.randint(1, 2)):
        name = dice.choice(list(found))
        weight = found.pop(name)
        match dice.randrange(4):
            case 0:
                found[name.replace(dice.choice("0123"), dice.choice("0123"))] = weight
            case 1:
                found[name] = weight.flatten()
            case 2:
                found[name] = weight[: dice.randrange(weight.shape[0] + 1)] if weight.ndim else weight
    return found


@pytest.mark.parametrize("program", ["openai", "pytorch-ddpm", "smalldiffusion"])
def test_damaged_weights_are_refused_or_make_a_network(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smalldiffusion import Unet

    weights, flags = {
        "openai": (openai(classes=3), OPENAI_FLAGS),
        "pytorch-ddpm": (PytorchDdpmNetwork(10, 32, (1, 2), (1,), 1).state_dict(), "--img_size 16"),
        "smalldiffusion": (
            Unet(16, 1, 1, ch=32, ch_mult=(1, 2)).state_dict(),
            "--in_dim 16 --N 9 --scaled True --schedule ScheduleLDM",
        ),
    }[program]
    dice, refused = random.Random(0), []
    for _ in range(40):
        found = PickledWeights(damaged(weights, dice), {}, bounded=True)
        monkeypatch.setattr(find, "read_pickled_weights", lambda path, skip, found=found: found)
        try:
            peer = find.find_peer(tmp_path, flags=read_flags(flags), size=None, which=None, on_event=ignore)
            config = load_config(flags={key: (value, "") for key, value in peer.settings.items()}).config
            with torch.device("meta"):
                check_weights(build_network(config, peer.image_shape), peer.weights, tmp_path)
        except DdpmError as error:
            refused.append(error.exit_status)
    assert len(refused) > 20  # others leave the network whole
    assert set(refused) == {2}
