"""Every objective as it is trained: each switch does something, and a run with all of them resumes bit for bit."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny_configs import tiny_config

from ddpm_cli.config.schema.config import Config
from ddpm_cli.data.images import with_limit
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.errors import ConfigError, InterruptedRunError, RequestError
from ddpm_cli.evaluation.evaluate import evaluate
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.results.events import EvaluateProgress, Event, TrainProgress
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.train import resume, train
from ddpm_cli.training.trainer import Trainer

HYBRID = "objective.loss=hybrid"
ALL = [HYBRID, "objective.timesteps=loss-aware", "objective.timesteps.history=1", "objective.timesteps.uniform_share=0.2"]
ALL += ["objective.weighting=min-snr", "schedule.timesteps=4", "train.sampler.steps=1"]
STEPS = 10


def tiny(*sets: str) -> Config:
    return tiny_config("checkpoint.every=100", f"train.steps={STEPS}", *sets)


@pytest.fixture(scope="module")
def dataset():
    return with_limit(load_fashion_mnist_10k(), 40)


def weights_after_two_steps(dataset, *sets: str) -> torch.Tensor:
    """Of the output layer, which starts at zero: what the first two gradients made of it."""
    trainer = Trainer(tiny(*sets), dataset, Accelerator(cpu=True))
    trainer.train_step()
    trainer.train_step()
    assert math.isfinite(trainer.losses.sums["epoch"])
    weight = trainer.model.conv_out.weight.detach().flatten()
    assert weight.isfinite().all()
    assert weight.abs().max() > 0
    return weight


SWITCHES = {
    "default": [],
    "x0": ["objective.parameterization=x0"],
    "v": ["objective.parameterization=v"],
    "edm": ["objective.parameterization=edm"],
    "edm 0.7": ["objective.parameterization=edm", "objective.parameterization.sigma_data=0.7"],
    "min-snr": ["objective.weighting=min-snr"],
    "min-snr 1": ["objective.weighting=min-snr", "objective.weighting.gamma=1"],
    "x0 snr": ["objective.parameterization=x0", "objective.weighting=snr"],
    "vlb": ["objective.loss=vlb"],
    "vlb fixed-large": ["objective.loss=vlb", "objective.variance=fixed-large"],
    "vlb learned-range": ["objective.loss=vlb", "objective.variance=learned-range"],
    "hybrid": [HYBRID],
    "hybrid 0.1": [HYBRID, "objective.loss.vlb_share=0.1"],
    "stratified": ["objective.timesteps=stratified"],
    "logit-normal": ["objective.timesteps=logit-normal"],
    "logit-normal 1": ["objective.timesteps=logit-normal", "objective.timesteps.mean=1"],
    "log-normal": ["objective.timesteps=log-normal"],
    "log-normal 0": ["objective.timesteps=log-normal", "objective.timesteps.p_mean=0"],
    "loss-aware": ["objective.timesteps=loss-aware"],
}


def test_every_switch_changes_what_is_trained(dataset) -> None:
    """PITFALL 7: no two of them make the same step, and none is without effect."""
    results = {name: weights_after_two_steps(dataset, *sets) for name, sets in SWITCHES.items()}
    names = list(results)
    for number, name in enumerate(names):
        for other in names[:number]:
            assert not torch.equal(results[name], results[other]), (name, other)


def test_a_learned_variance_is_trained_by_the_hybrid(dataset) -> None:
    """Its half of the output layer moves too, and the network has it twice as wide."""
    weight = weights_after_two_steps(dataset, HYBRID)
    assert weight.numel() == 2 * weights_after_two_steps(dataset).numel()
    assert weight.view(2, 16, -1)[:, :, :].abs().amax((0, 2)).min() > 0  # pixel shuffle keeps channels apart in groups of 16


def final(runs: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    groups = ("model", "ema", "optimizer", "timesteps")
    return {f"{group}/{k}": v for group in groups for k, v in checkpoint.tensors(group).items()}


def test_a_loss_aware_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    """4 steps of noise and a history of one loss each, so that the draws depend on the history within the first few steps."""

    def stop(event: Event) -> None:
        if isinstance(event, TrainProgress) and event.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    train(tiny(*ALL), runs=tmp_path / "whole", name="run")
    with pytest.raises(InterruptedRunError):
        train(tiny(*ALL), runs=tmp_path / "ours", name="run", on_event=stop)
    middle = latest_checkpoint(RunDirectory(tmp_path / "ours" / "run")).tensors("timesteps")
    assert int(middle["counts"].min()) > 0, "the draws were still uniform"
    resume(tmp_path / "ours" / "run")
    whole, ours = final(tmp_path / "whole"), final(tmp_path / "ours")
    assert whole.keys() == ours.keys()
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []
    assert int(whole["timesteps/counts"].sum()) == 8 * STEPS


def test_forgetting_the_history_would_be_seen(dataset) -> None:
    """The draws after some steps differ from those of a fresh sampler, or the test above would prove nothing."""
    trainer = Trainer(tiny(*ALL), dataset, Accelerator(cpu=True))
    for _ in range(5):
        trainer.train_step()
    probabilities = trainer.timestep_sampler.probabilities()  # type: ignore[attr-defined]
    assert probabilities.max() > 1.2 * probabilities.min()


def test_micro_batches_teach_the_history_the_same_losses(dataset) -> None:
    kept = []
    for sets in ([], ["train.micro_batch_size=3"]):
        trainer = Trainer(tiny(*ALL, *sets), dataset, Accelerator(cpu=True))
        trainer.train_step()
        kept.append(trainer.timestep_sampler.state_dict())
    assert torch.equal(kept[0]["counts"], kept[1]["counts"])
    torch.testing.assert_close(kept[0]["losses"], kept[1]["losses"])


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["objective.variance=learned-range"], 'not trained by the loss "simple"'),
        ([HYBRID, "objective.variance=fixed-large"], 'cannot be "fixed-large"'),
        (["objective.loss=vlb", "objective.weighting=min-snr"], 'has no effect on the loss "vlb"'),
        (["objective.parameterization=edm", "schedule=learned"], "eps, x0 or v"),
        (["objective.weighting=min-snr", "objective.weighting.gamma=0"], "greater than 0"),
        (["objective.timesteps=logit-normal", "objective.timesteps.std=0"], "greater than 0"),
        (["objective.loss=vbl"], 'the nearest of simple, vlb, hybrid, consistency is "vlb"'),
    ],
)
def test_objectives_that_cannot_work_are_refused(sets: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(*sets)
    assert reason in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- evaluate


@pytest.fixture(scope="module")
def hybrid_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hybrid")
    train(tiny(HYBRID, "schedule.timesteps=20", "model.num_classes=auto"), runs=folder, name="run")
    return folder / "run"


def test_figures_carry_all_that_they_depend_on(hybrid_run: Path, dataset) -> None:
    trained = load_trained(hybrid_run, torch.device("cpu"))
    heard: list[EvaluateProgress] = []

    def listen(event: Event) -> None:
        if isinstance(event, EvaluateProgress):
            heard.append(event)

    settings = EvaluateSettings(n=10, batch_size=4, seed=3)
    bound, ode = evaluate(trained, dataset, ["bits-per-dim", "nll-ode"], settings, on_event=listen)
    assert bound.value == pytest.approx(sum(bound.terms.values()))
    assert set(bound.terms) == {"prior", "steps", "decoder"}
    assert bound.details["variance"] == "learned-range"
    assert (bound.n, bound.split, bound.seed, bound.unit) == (10, "test", 3, "bits/dim")
    assert len(bound.sha256) == 64
    assert bound.sha256 == ode.sha256
    assert 2 < bound.value < 20
    assert 2 < ode.value < 100  # coarse steps and a network that has learned nothing
    last = {event.metric: (event.done, event.total) for event in heard}
    assert last == {"bits-per-dim": (60, 60), "nll-ode": (114, 114)}  # 3 batches of 20 steps, and of 2 * 19
    again = evaluate(trained, dataset, ["bits-per-dim"], settings)[0]
    assert again == bound
    assert evaluate(trained, dataset, ["bits-per-dim"], EvaluateSettings(n=10, batch_size=4, seed=4))[0].value != bound.value


def test_the_variance_of_the_bound_can_be_chosen(hybrid_run: Path, dataset) -> None:
    trained = load_trained(hybrid_run, torch.device("cpu"))
    values = {
        variance: evaluate(trained, dataset, ["bits-per-dim"], EvaluateSettings(n=8, variance=variance))[0].value
        for variance in ("fixed-small", "fixed-large", "learned-range")
    }
    assert len(set(values.values())) == 3


def test_a_metric_that_does_not_exist_and_images_of_another_size_are_refused(hybrid_run: Path, dataset) -> None:
    trained = load_trained(hybrid_run, torch.device("cpu"))
    with pytest.raises(RequestError, match="no metric"):
        evaluate(trained, dataset, ["bits"])
    halves = replace(dataset.train, images=dataset.train.images[:, :, ::2, ::2])
    with pytest.raises(RequestError, match="14, 14"):
        evaluate(trained, replace(dataset, train=halves, test=halves), ["bits-per-dim"])


def test_edm_is_trained_at_any_level_of_noise_and_others_at_steps() -> None:
    def drawn(*sets: str) -> torch.Tensor:
        objective = tiny("objective.timesteps=log-normal", *sets).objective
        schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 1000))
        return objective.build_timesteps(1000).draw(64, schedule, torch.Generator().manual_seed(0), "cpu").t

    assert drawn("objective.parameterization=v").dtype == torch.int64
    t = drawn("objective.parameterization=edm")
    assert t.dtype == torch.float64
    assert (t != t.round()).any()
