"""Sample with a compiled network, where there is so much to denoise that compiling pays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.config.schema.sample import GuidanceConfig, GuideConfig
from ddpm_cli.core.compute.compilation import compiled, wants_compiling
from ddpm_cli.core.compute.out_of_memory import free_memory
from ddpm_cli.diffusion.denoise import Network, predictor
from ddpm_cli.diffusion.forward import Levels

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.results.events import Listener
    from ddpm_cli.sampling.trained_model import TrainedModel

MANY_EVALUATIONS = 2000
"""Of a whole batch: with fewer, sampling is over sooner without a compiler, which takes about a minute."""


class WholeBatches:
    """Run a network that is compiled for batches of some sizes; on others, such as the last one, run it as it is.

    Args:
        network: The network.
        fast: The network compiled.
        sizes: Images of the batches that it was compiled for.
    """

    def __init__(self, network: nn.Module, fast: Network, sizes: Collection[int]) -> None:
        self._network, self._fast, self._sizes = network, fast, sizes

    def __call__(self, x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        """The network's own prediction."""
        if len(x_t) not in self._sizes:
            result: Tensor = self._network(x_t, t, *labels)
            return result
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch gives it no types
        # A recorded graph writes each result to the same place, and samplers remember the ones before.
        return self._fast(x_t, t, *labels).clone()


def with_fast_network(trained: TrainedModel, images: int, settings: SampleConfig, on_event: Listener) -> TrainedModel:
    """Compile the model's network if `sample.compile` says so, or leaves it open and it pays.

    Args:
        trained: The model.
        images: That this process will draw.
        settings: Of sampling.
        on_event: Told of compiling.
    """
    if trained.guide is not None:
        alone = settings.model_copy(update={"guidance": GuidanceConfig(), "guide": GuideConfig()})
        guide = replace(trained.guide, model=with_fast_network(trained.guide.model, images, alone, on_event))
        trained = replace(trained, guide=guide)
    size = min(settings.batch_size, images)
    device = trained.device
    evaluations = images // size * settings.sampler.evaluations(trained.schedule.timesteps) if size else 0
    if not wants_compiling(settings.compile, device) or (settings.compile == "auto" and evaluations < MANY_EVALUATIONS):
        return trained
    sizes = {size, 2 * size} if settings.guidance.scale not in (0.0, 1.0) else {size}
    # On CUDA the kernels of an evaluation are recorded once, as a graph that is replayed without the host.
    mode = "reduce-overhead" if device.type == "cuda" else None
    try:
        fast = compiled(trained.network, lambda network: _rehearse(trained, network, sizes), on_event, mode)
    except (RuntimeError, MemoryError) as error:  # of memory that ran out: smaller batches are found without a compiler
        free_memory(error)
        return trained
    return trained if fast is trained.network else replace(trained, fast=WholeBatches(trained.network, fast, sizes))


@torch.no_grad()
def _rehearse(trained: TrainedModel, network: Network, sizes: Collection[int]) -> None:
    device = trained.device
    predict = predictor(
        WholeBatches(trained.network, network, sizes), trained.schedule, trained.config.objective.build_prediction()
    )
    for size in sizes:
        x_t = torch.zeros(size, *trained.image_shape, device=device)
        labels = None if trained.num_classes is None else torch.zeros(size, dtype=torch.int64, device=device)
        predict(x_t, Levels.all_at(trained.schedule.at(0), 0, x_t), labels)
