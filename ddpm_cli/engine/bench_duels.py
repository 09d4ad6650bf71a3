"""Our training and sampling against those of other libraries, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_cli.benchmark import Duel, Network, Spread
from ddpm_cli.data.batches import normalise
from ddpm_cli.engine.bench_peers import PEERS, Loop, Steps, nearest_network
from ddpm_cli.engine.bench_subject import autocast, sampling_steps, subject
from ddpm_cli.engine.bench_timing import Work, rates
from ddpm_cli.models.cost import forward_flops, parameter_count

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset


def peer_networks(config: Config, shape: tuple[int, int, int], names: Sequence[str]) -> list[Network]:
    """The peers' networks that come nearest to that of a config, for images of `shape`."""
    return [_peer_network(name, config, shape) for name in names]


def _peer_network(name: str, config: Config, shape: tuple[int, int, int]) -> Network:
    nearest = nearest_network(name, config, shape)
    flops = forward_flops(nearest.network, nearest.image_shape)
    return Network(name, parameter_count(nearest.network), flops, not nearest.differences, nearest.differences)


def duels(
    config: Config,
    dataset: Dataset,
    names: Sequence[str],
    batch_size: int,
    accelerator: Accelerator,
    precision: str,
    seconds: float,
    on_progress: Callable[[float], None],
) -> list[Duel]:
    """Time our training against the peers', then our sampling against theirs.

    Args:
        config: Ours; the peers' networks come near it, their settings of training are their own.
        dataset: Images to train on.
        names: Peers, see `PEERS`.
        batch_size: Images at a time.
        accelerator: Device and number format.
        precision: The same number format by name.
        seconds: Time to spend on all of it.
        on_progress: Told of the share that is done, in [0, 1].
    """
    training, sampling = subject(config, dataset, batch_size, accelerator, precision)
    steps = [_steps(name, config, dataset, batch_size, accelerator) for name in names]
    evaluations = batch_size * sampling_steps(config, accelerator.device)
    trainings = [training, *(Work(train_step, batch_size) for train_step, _ in steps)]
    samplings = [sampling, *(Work(_autocasting(sample, accelerator, precision), evaluations) for _, sample in steps)]
    device = accelerator.device
    trained = rates(trainings, seconds / 2, device, lambda share: on_progress(share / 2))
    sampled = rates(samplings, seconds / 2, device, lambda share: on_progress((1 + share) / 2))
    return [
        _duel(name, work, batch_size, precision, ours, theirs)
        for work, (ours, *others) in (("training", trained), ("sampling", sampled))
        for name, theirs in zip(names, others, strict=True)
    ]


def _duel(name: str, work: str, batch_size: int, precision: str, ours: Sequence[float], theirs: Sequence[float]) -> Duel:
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return Duel(name, work, batch_size, precision, len(ratios), Spread.of(ours), Spread.of(theirs), Spread.of(ratios))


def _steps(name: str, config: Config, dataset: Dataset, batch_size: int, ours: Accelerator) -> Steps:
    from accelerate import Accelerator

    torch.manual_seed(0)
    nearest = nearest_network(name, config, dataset.image_shape)
    accelerator = Accelerator(mixed_precision=ours.mixed_precision, cpu=ours.device.type == "cpu")
    loop = Loop(
        nearest.network.to(ours.device),
        accelerator,
        _padded(dataset, nearest.image_shape),
        batch_size,
        config.schedule.timesteps,
        sampling_steps(config, ours.device),
    )
    return PEERS[name].steps(loop)


def _padded(dataset: Dataset, shape: tuple[int, int, int]) -> Tensor:
    """The training images as a peer takes them, in [-1, 1], float32, [N, *shape]."""
    images = normalise(torch.from_numpy(dataset.train.images))
    _, height, width = dataset.image_shape
    return functional.pad(images, (0, shape[2] - width, 0, shape[1] - height))


def _autocasting(sample: Callable[[], None], accelerator: Accelerator, precision: str) -> Callable[[], None]:
    def cast() -> None:
        with autocast(accelerator.device, precision):
            sample()

    return cast
