"""Diffusers' network in our own loop: the same network does the same there, whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tiny_configs import DIT, NETWORK, as_sets

from ddpm_cli.bench.duels import duels, same_network
from ddpm_cli.bench.subject import Setting, random_dataset, subject
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.interop.diffusers.dit import to_dit
from ddpm_cli.results.benchmark import UNDER_OUR_LOOP
from ddpm_cli.sampling.diffusers.unet2d_names import to_unet2d
from ddpm_cli.training.trainer import Trainer

CHANGES = {"model.stem": 1, "model.norm_groups": 4, "sample.sampler": "ddim", "schedule.timesteps": 50}
SMALL = as_sets(NETWORK | CHANGES | {"train.batch_size": 4, "train.device": "cpu"})


def setting(*sets: str) -> Setting:
    config = load_config(sets=[*SMALL, *sets]).config
    return Setting(config, random_dataset((1, 8, 8), 8, 0), 4, "fp32", make_accelerator("cpu", "fp32"))


def compiled_sides(*sets: str) -> Sequence[tuple[str, str, bool, bool]]:
    found = duels(setting(*sets), ["diffusers"], 0.01, lambda share: None)
    return [(duel.peer, duel.work, duel.ours_compiled, duel.theirs_compiled) for duel in found]


@pytest.mark.parametrize("sets", [(), ("train.micro_batch_size=3", "train.gradient_checkpointing=true")])
def test_the_same_network_is_trained_alike_by_our_loop(sets: tuple[str, ...]) -> None:
    point = setting(*sets)
    ours = Trainer(point.config, point.dataset, point.accelerator)
    network = same_network(point)
    network.network.load_state_dict(to_unet2d(ours.model.state_dict()))
    theirs = Trainer(point.config, point.dataset, make_accelerator("cpu", "fp32"), network=network)
    for _ in range(3):
        ours.train_step()
        theirs.train_step()
    torch.testing.assert_close(theirs.grad_norm, ours.grad_norm, rtol=1e-4, atol=0)
    expected = to_unet2d(ours.ema.model.state_dict())
    found = theirs.ema.model.network.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


def test_the_same_transformer_is_trained_alike_by_our_loop() -> None:
    sets = as_sets(DIT | {"schedule.timesteps": 50, "train.batch_size": 4, "train.device": "cpu"})
    point = Setting(load_config(sets=sets).config, random_dataset((1, 8, 8), 8, 0), 4, "fp32", make_accelerator("cpu", "fp32"))
    ours = Trainer(point.config, point.dataset, point.accelerator)
    network = same_network(point)
    network.network.load_state_dict(to_dit(ours.model.state_dict()))
    theirs = Trainer(point.config, point.dataset, make_accelerator("cpu", "fp32"), network=network)
    for _ in range(3):
        ours.train_step()
        theirs.train_step()
    found = theirs.ema.model.network.state_dict()
    for name, weight in to_dit(ours.ema.model.state_dict()).items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


def test_it_recomputes_activations_where_ours_does() -> None:
    settings = (setting(f"train.gradient_checkpointing={choice}") for choice in ("false", "true"))
    assert [same_network(each).network.is_gradient_checkpointing for each in settings] == [False, True]


def test_both_networks_are_compiled_where_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: lambda *inputs: network(*inputs))
    assert compiled_sides("train.compile=true", "sample.compile=true") == [
        ("diffusers", "training", True, False),
        (UNDER_OUR_LOOP, "training", True, True),
        ("diffusers", "sampling", True, False),
        (UNDER_OUR_LOOP, "sampling", True, True),
    ]


def test_only_the_very_same_network_is_put_into_our_loop() -> None:
    assert compiled_sides("model.stem=2") == [
        ("diffusers", "training", False, False),
        ("diffusers", "sampling", False, False),
    ]


def test_it_takes_the_place_of_ours_in_training_and_in_sampling() -> None:
    """Its copy, whose weights are the averaged ones, keeps the hook."""
    point, calls = setting(), list[bool]()
    network = same_network(point)
    network.register_forward_hook(lambda module, *_: calls.append(module.training))
    training, sampling = subject(point, network)
    assert not training.compiled  # on a CPU, unasked
    assert not sampling.compiled
    training.run()
    assert calls == [True]
    sampling.run()
    assert calls == [True, *[False] * point.sampling_steps]
