"""Compiled networks: the same gradients, the same files, and a network that works where there is no compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_configs import tiny_config

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.network import build_model
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute import compilation
from ddpm_cli.core.compute.compilation import wants_compiling
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.errors import OutOfMemoryError
from ddpm_cli.results.events import Compiling, Event, Notice
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling import compiled as fast_sampling
from ddpm_cli.sampling.compiled import WholeBatches, with_fast_network
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.train import resume, train
from ddpm_cli.training.trainer import Trainer


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The half of the compiler that reads Python; the other takes half a minute, and tests/soak/compiled.py has it."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    torch.compiler.reset()


def tiny(*sets: str, steps: int = 4) -> Config:
    return tiny_config(
        "model.channel_mult=[1]",
        "model.middle_attention=false",
        "train.eval_images=4",
        "train.sampler.steps=1",
        "train.compile=true",
        f"train.steps={steps}",
        *sets,
    )


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of one batch, in its parts, of a network that is no longer all zeros at its end."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    t, eps = torch.arange(0, 1000, 125), torch.randn(8, *trainer.image_shape, generator=generator)
    torch.manual_seed(0)
    trainer.accumulate_gradients(t, torch.ones(8), eps[:, None])
    return {name: parameter.grad for name, parameter in trainer.model.named_parameters() if parameter.grad is not None}


def test_compiled_gradients_equal_those_of_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the backward pass that the compiler derives, but torch's own kernels; in parts of 5 and 3 images."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    config = tiny("train.micro_batch_size=5", "model.num_classes=10", "train.gradient_checkpointing=true")
    dataset, events = build_dataset(config.data), list[Event]()
    plain, fast = (Trainer(config, dataset, make_accelerator("cpu", "fp32"), events.append) for _ in range(2))
    fast.compile()
    assert [isinstance(event, Compiling) and event.seconds is None for event in events] == [True, False]
    expected, found = gradients(plain), gradients(fast)
    assert expected.keys() == found.keys() == dict(fast.model.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_the_u_net_is_one_graph() -> None:
    """A break in it would be a fall back into Python, at every pass."""
    network = build_model(tiny().model, (1, 28, 28))
    whole = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    assert whole(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)).shape == (2, 1, 28, 28)


def test_auto_is_cuda_without_a_promise_of_bits() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert wants_compiling("auto", cuda)
    assert not wants_compiling("auto", cuda, deterministic=True)
    assert not wants_compiling("auto", cpu)
    assert wants_compiling(True, cpu)
    assert not wants_compiling(False, cuda)


def weights(runs: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    return {
        f"{group}/{name}": value for group in ("model", "ema", "optimizer") for name, value in checkpoint.tensors(group).items()
    }


def test_a_compiled_run_is_resumed_and_leaves_the_same_files(tmp_path: Path) -> None:
    """Stopped after 2 of 4 steps; under the names, and nearly with the numbers, of a run that was never compiled."""
    for name, steps in (("whole", 4), ("parts", 2)):
        train(tiny(steps=steps), runs=tmp_path / name, name="run")
    resume(tmp_path / "parts" / "run", budget={"steps": 4})
    train(tiny("train.compile=false"), runs=tmp_path / "plain", name="run")
    whole, parts, plain = (weights(tmp_path / name) for name in ("whole", "parts", "plain"))
    assert whole.keys() == parts.keys() == plain.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    for name in (name for name in plain if name.startswith("ema/") and name.endswith("weight")):
        torch.testing.assert_close(whole[name], plain[name], rtol=0, atol=1e-3)


def failing(*_: Any, **__: Any) -> Any:
    """What torch.compile gives where there is no compiler: it is noticed at the first call."""

    def call(*_: Any) -> Any:
        raise RuntimeError(
            "backend='inductor' raised:\nInvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1"
        )

    return call


def test_without_a_compiler_the_run_goes_on_as_it_is_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", failing)
    events: list[Event] = []
    train(tiny(), runs=tmp_path / "fallen back", name="run", on_event=events.append)
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert notice.important
    assert "No working C++ compiler found" in notice.message
    train(tiny("train.compile=false"), runs=tmp_path / "plain", name="run")
    fallen_back, plain = weights(tmp_path / "fallen back"), weights(tmp_path / "plain")
    assert [name for name in plain if not torch.equal(plain[name], fallen_back[name])] == []


def test_what_is_not_compiled_is_told() -> None:
    """A learned schedule reads from the device at each step, and asks for gradients that the compiler has no eye for."""
    config, events = tiny("schedule.kind=learned"), list[Event]()
    trainer = Trainer(config, build_dataset(config.data), make_accelerator("cpu", "fp32"), events.append)
    trainer.compile()
    assert events == [Notice("A network beside a learned schedule is not compiled: it runs as it is.")]
    assert trainer.predict is trainer.network


def test_memory_that_runs_out_is_no_fault_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: without_memory)
    with pytest.raises(OutOfMemoryError):
        train(tiny(), runs=tmp_path, name="run")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("conditional")
    train(tiny("train.compile=false", "model.num_classes=10"), runs=folder, name="run")
    return load_trained(folder / "run", torch.device("cpu"))


def test_compiled_samples_are_the_same(conditional: TrainedModel) -> None:
    """Of 7 images in batches of 3 the last is alone, and goes through the network as it is; guidance doubles each batch."""
    sample = conditional.config.sample
    guidance = sample.guidance.model_copy(update={"scale": 2.0})
    settings = sample.model_copy(
        update={"compile": True, "batch_size": 3, "guidance": guidance, "sampler": conditional.config.train.sampler}
    )
    fast = with_fast_network(conditional, 7, settings, lambda _: None)
    assert isinstance(fast.fast, WholeBatches)
    plain, compiled = (torch.cat(list(generate_samples(model, range(7), settings))) for model in (conditional, fast))
    assert (plain.int() - compiled.int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in compiled}) == 7


def test_compiled_are_batches_of_the_rehearsed_sizes_alone(conditional: TrainedModel) -> None:
    sizes: list[int] = []

    def fast(x_t: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x_t))
        return conditional.network(x_t, *rest)

    settings = conditional.config.sample.model_copy(update={"batch_size": 3, "sampler": conditional.config.train.sampler})
    model = replace(conditional, fast=WholeBatches(conditional.network, fast, {3}))
    list(generate_samples(model, range(7), settings))
    assert sizes == [3, 3]


def test_sampling_compiles_by_itself_on_cuda_where_much_is_to_do(
    conditional: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(fast_sampling, "compiled", lambda network, *_: asked.append(True) or network)
    monkeypatch.setattr(fast_sampling, "wants_compiling", lambda choice, device: choice is not False)
    settings = conditional.config.sample.model_copy(update={"batch_size": 10})
    steps = settings.sampler.evaluations(conditional.schedule.timesteps)
    enough = 10 * -(-fast_sampling.MANY_EVALUATIONS // steps)
    for images, compiles in ((enough - 1, False), (enough, True)):
        asked.clear()
        assert with_fast_network(conditional, images, settings, lambda _: None) is conditional
        assert bool(asked) == compiles
