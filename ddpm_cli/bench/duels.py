"""Time our training and sampling against those of other libraries, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.bench.networks import Nearest, OneResult
from ddpm_cli.bench.peers import PEERS, Loop, nearest_network
from ddpm_cli.bench.subject import Setting, subject
from ddpm_cli.bench.timing import Work, rates
from ddpm_cli.models.cost import forward_flops, parameter_count
from ddpm_cli.results.benchmark import UNDER_OUR_LOOP, Duel, Network, Spread

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset


def peer_networks(config: Config, shape: tuple[int, int, int], names: Sequence[str]) -> list[Network]:
    """Find the peers' networks that come nearest to that of a config, for images of `shape`."""
    return [_peer_network(name, config, shape) for name in names]


def _peer_network(name: str, config: Config, shape: tuple[int, int, int]) -> Network:
    nearest = nearest_network(name, config, shape)
    flops = forward_flops(nearest.network, nearest.image_shape)
    return Network(name, parameter_count(nearest.network), flops, not nearest.differences, nearest.differences)


@dataclass(frozen=True)
class _Side:
    """Hold one side of a duel: whose it is, and what is timed."""

    name: str
    training: Work
    sampling: Work


def duels(setting: Setting, names: Sequence[str], seconds: float, on_progress: Callable[[float], None]) -> list[Duel]:
    """Time our training against the peers', then our sampling against theirs.

    Where a peer's network is the same as ours, it is also timed in our own training and sampling, see `UNDER_OUR_LOOP`: of these
    two nothing differs but who wrote the network.

    Args:
        setting: Ours; the peers' networks come near it, their settings of training are their own.
        names: Peers, see `PEERS`.
        seconds: Time to spend on all of it.
        on_progress: Told of the share that is done, in [0, 1].
    """
    sides = [_Side("ddpm", *subject(setting)), *(side for name in names for side in _sides(name, setting))]
    trained = _timed("training", sides, setting, seconds / 2, lambda share: on_progress(share / 2))
    return trained + _timed("sampling", sides, setting, seconds / 2, lambda share: on_progress((1 + share) / 2))


def _timed(work: str, sides: Sequence[_Side], setting: Setting, seconds: float, on_progress: Callable[[float], None]) -> list[Duel]:
    """The first side against each of the others."""
    works = [side.training if work == "training" else side.sampling for side in sides]
    ours, *others = rates(works, seconds, setting.device, on_progress)
    return [
        Duel(
            side.name,
            work,
            setting.batch_size,
            setting.precision,
            len(ours),
            Spread.of(ours),
            Spread.of(theirs),
            Spread.of([our / their for our, their in zip(ours, theirs, strict=True)]),
            ours_compiled=works[0].compiled,
            theirs_compiled=its_work.compiled,
        )
        for side, its_work, theirs in zip(sides[1:], works[1:], others, strict=True)
    ]


def _sides(name: str, setting: Setting) -> Iterator[_Side]:
    """A peer with its own loop and, if its network is ours, with our loop."""
    nearest, size = _network(name, setting), setting.batch_size
    train_step, sample = PEERS[name].steps(_loop(nearest, setting))
    yield _Side(name, Work(train_step, size), Work(_autocasting(sample, setting), size * setting.sampling_steps))
    if not nearest.differences:
        yield _Side(UNDER_OUR_LOOP, *subject(setting, same_network(setting)))


def same_network(setting: Setting) -> nn.Module:
    """Build diffusers' network, the only one that can be the same as ours, to be called and trained as ours is."""
    network: Any = _network("diffusers", setting).network
    if setting.config.train.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    return OneResult(network)


def _network(name: str, setting: Setting) -> Nearest:
    torch.manual_seed(0)
    return nearest_network(name, setting.config, setting.dataset.image_shape)


def _loop(nearest: Nearest, setting: Setting) -> Loop:
    return Loop(
        nearest.network.to(setting.device),
        setting.another_accelerator(),
        _padded(setting.dataset, nearest.image_shape),
        setting.batch_size,
        setting.config.schedule.timesteps,
        setting.sampling_steps,
    )


def _padded(dataset: Dataset, shape: tuple[int, int, int]) -> Tensor:
    """The training images as a peer takes them, in [-1, 1], float32, [N, *shape]."""
    images = dataset.scale.normalise(torch.from_numpy(dataset.train.images))
    _, height, width = dataset.image_shape
    return functional.pad(images, (0, shape[2] - width, 0, shape[1] - height))


def _autocasting(sample: Callable[[], None], setting: Setting) -> Callable[[], None]:
    def cast() -> None:
        with setting.autocast():
            sample()

    return cast
