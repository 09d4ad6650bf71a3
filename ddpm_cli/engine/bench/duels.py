"""Our training and sampling against those of other libraries, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_cli.benchmark import Duel, Network, Spread
from ddpm_cli.data.batches import normalise
from ddpm_cli.engine.bench.peers import PEERS, Loop, Steps, nearest_network
from ddpm_cli.engine.bench.subject import Setting, subject
from ddpm_cli.engine.bench.timing import Work, rates
from ddpm_cli.models.cost import forward_flops, parameter_count

if TYPE_CHECKING:
    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset


def peer_networks(config: Config, shape: tuple[int, int, int], names: Sequence[str]) -> list[Network]:
    """The peers' networks that come nearest to that of a config, for images of `shape`."""
    return [_peer_network(name, config, shape) for name in names]


def _peer_network(name: str, config: Config, shape: tuple[int, int, int]) -> Network:
    nearest = nearest_network(name, config, shape)
    flops = forward_flops(nearest.network, nearest.image_shape)
    return Network(name, parameter_count(nearest.network), flops, not nearest.differences, nearest.differences)


def duels(setting: Setting, names: Sequence[str], seconds: float, on_progress: Callable[[float], None]) -> list[Duel]:
    """Time our training against the peers', then our sampling against theirs.

    Args:
        setting: Ours; the peers' networks come near it, their settings of training are their own.
        names: Peers, see `PEERS`.
        seconds: Time to spend on all of it.
        on_progress: Told of the share that is done, in [0, 1].
    """
    size, device = setting.batch_size, setting.device
    training, sampling = subject(setting)
    steps = [_steps(name, setting) for name in names]
    trainings = [training, *(Work(train_step, size) for train_step, _ in steps)]
    samplings = [sampling, *(Work(_autocasting(sample, setting), size * setting.sampling_steps) for _, sample in steps)]
    trained = rates(trainings, seconds / 2, device, lambda share: on_progress(share / 2))
    sampled = rates(samplings, seconds / 2, device, lambda share: on_progress((1 + share) / 2))
    return [
        _duel(name, work, setting, ours, theirs)
        for work, (ours, *others) in (("training", trained), ("sampling", sampled))
        for name, theirs in zip(names, others, strict=True)
    ]


def _duel(name: str, work: str, setting: Setting, ours: Sequence[float], theirs: Sequence[float]) -> Duel:
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    spreads = Spread.of(ours), Spread.of(theirs), Spread.of(ratios)
    return Duel(name, work, setting.batch_size, setting.precision, len(ratios), *spreads)


def _steps(name: str, setting: Setting) -> Steps:
    from accelerate import Accelerator

    torch.manual_seed(0)
    nearest = nearest_network(name, setting.config, setting.dataset.image_shape)
    loop = Loop(
        nearest.network.to(setting.device),
        Accelerator(mixed_precision=setting.accelerator.mixed_precision, cpu=setting.device.type == "cpu"),
        _padded(setting.dataset, nearest.image_shape),
        setting.batch_size,
        setting.config.schedule.timesteps,
        setting.sampling_steps,
    )
    return PEERS[name].steps(loop)


def _padded(dataset: Dataset, shape: tuple[int, int, int]) -> Tensor:
    """The training images as a peer takes them, in [-1, 1], float32, [N, *shape]."""
    images = normalise(torch.from_numpy(dataset.train.images))
    _, height, width = dataset.image_shape
    return functional.pad(images, (0, shape[2] - width, 0, shape[1] - height))


def _autocasting(sample: Callable[[], None], setting: Setting) -> Callable[[], None]:
    def cast() -> None:
        with setting.autocast():
            sample()

    return cast
