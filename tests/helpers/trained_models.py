"""Small models with weights that do something, as if they had been trained."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_configs import DIT, NETWORK, as_sets

from ddpm_cli.build.network import build_network
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.sampling.trained_model import TrainedModel

SMALL = as_sets(NETWORK | {"model.stem": 1, "model.norm_groups": 4, "schedule.timesteps": 12})

SMALL_DIT = as_sets(DIT | {"schedule.timesteps": 12})


def trained_model(*sets: str, shape: tuple[int, int, int] = (1, 8, 12)) -> TrainedModel:
    return _with_random_weights([*SMALL, *sets], shape)


def trained_dit(*sets: str, shape: tuple[int, int, int] = (1, 8, 8)) -> TrainedModel:
    return _with_random_weights([*SMALL_DIT, *sets], shape)


def _with_random_weights(sets: list[str], shape: tuple[int, int, int]) -> TrainedModel:
    config = load_config(sets=sets).config
    network = build_network(config, shape).eval().requires_grad_(False)
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=draws))
    names = tuple("abcdefgh"[: config.model.num_classes or 0]) if not isinstance(config.model.num_classes, str) else ()
    return TrainedModel(network, build_schedule(config.schedule), config, shape, Path("model"), 3, names)
