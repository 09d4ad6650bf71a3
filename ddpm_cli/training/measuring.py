"""Measure the averaged weights while a model trains: the held-out loss, metrics of samples, and the samples themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ddpm_cli.core.compute.sharding import whole
from ddpm_cli.sampling.parallel import own_samples
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.held_out import held_out_losses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.metrics import TrainingMetrics
    from ddpm_cli.training.stopping import Stopping
    from ddpm_cli.training.trainer import Trainer


class Measuring:
    """Measure the EMA weights of a run between its steps; all processes take part, and a signal on any has all give it up.

    Args:
        trainer: Of the run.
        dataset: Its images, of which some are held out.
        run: Where it is kept.
        team: The processes.
        stopping: What they agree on.
        metrics: Measures samples; None for never.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        run: RunDirectory,
        team: Team,
        stopping: Stopping,
        metrics: TrainingMetrics | None = None,
    ) -> None:
        self._trainer, self._config = trainer, trainer.config
        self._run, self._team, self._stopping, self._metrics = run, team, stopping, metrics
        self._loss = self._config.objective.build_loss(dataset.scale.levels)
        self._class_names = dataset.train.class_names
        count = self._config.train.eval_images
        self.held_out_images = torch.from_numpy(dataset.test.images[:count])
        labelled = trainer.num_classes is not None
        self.held_out_labels = torch.from_numpy(dataset.test.labels[:count]) if labelled else None

    def held_out_losses(self) -> NDArray[np.float64]:
        """Measure the loss of each held-out image, of which there must be some, each process taking its share.

        Returns:
            [N], the same on every process.

        Raises:
            GivenUpError: After a signal; so do the other two.
        """
        count, train = len(self.held_out_images), self._config.train
        with whole(self._trainer.ema.model) as network:
            own = self._stopping.unless_stopped(
                lambda: held_out_losses(
                    network,
                    self.held_out_images,
                    self._trainer.schedule,
                    self._loss,
                    train.micro_batch_size or train.batch_size,
                    self._team.share(count),
                    self.held_out_labels,
                    self._stopping.check,
                    self._trainer.guide.ends if self._trainer.guide else None,
                    self._trainer.scale,
                )
            )
        losses: Tensor = self._trainer.accelerator.reduce(own, "sum")
        return losses.cpu().double().numpy()

    def metrics_of_samples(self) -> dict[str, float]:
        """Measure samples by `train.evaluate_metrics`, by name; what is not finite is left out."""
        metrics = self._metrics
        if metrics is None:
            return {}
        with whole(self._trainer.ema.model) as network:
            own = self._stopping.unless_stopped(lambda: metrics.draw(self._trained(network), self._stopping.check))
        return {name: value for name, value in metrics.values(own).items() if math.isfinite(value)}

    def samples(self) -> NDArray[np.uint8] | None:
        """Draw `train.sample_n` samples, always from the same seeds, each process its share.

        Returns:
            Their view in 8 bits, uint8 [N, C, H, W], on the main process, None on others.
        """
        count = self._config.train.sample_n
        with whole(self._trainer.ema.model) as network:
            own = self._stopping.unless_stopped(lambda: self._own_samples(network, count))
        images = list(self._team.collect(own, count))
        return self._trainer.scale.view_array(torch.cat(images).numpy()) if self._team.is_main else None

    def _own_samples(self, network: nn.Module, count: int) -> Tensor:
        settings = self._config.sample.model_copy(update={"sampler": self._config.train.sampler})
        trained, check = self._trained(network), self._stopping.check
        return own_samples(self._team, trained, range(count), settings, on_event=lambda _: check())

    def _trained(self, network: nn.Module) -> TrainedModel:
        """The EMA weights as they are now."""
        trainer = self._trainer
        return TrainedModel(
            network,
            trainer.schedule,
            self._config,
            trainer.image_shape,
            self._run.path,
            trainer.step,
            self._class_names,
            scale=trainer.scale,
        )
