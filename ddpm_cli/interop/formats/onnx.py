"""Write a trained model as an ONNX graph: its network alone, or the whole of DDIM with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.diffusion.denoise import thresholded
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import CLEAN
from ddpm_cli.interop.export_request import ddim_of
from ddpm_cli.interop.onnx_graph import load_onnx, save_onnx, save_onnx_loop
from ddpm_cli.interop.same_noise import prediction_difference, sample_from, seeded_noise
from ddpm_cli.results.interchange import Comparison
from ddpm_cli.sampling.generate import model_facts
from ddpm_cli.sampling.trained_model import guided_predictor

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import DdimSampler
    from ddpm_cli.interop.registry import ExportOptions
    from ddpm_cli.sampling.trained_model import TrainedModel

TOLERANCE = 1e-4
IMAGE_TOLERANCE = 1e-3
"""A predicted eps becomes an image at T - 1 through division by sqrt(abar), about 0.006: float32 rounds by 1e-4 there."""
BATCHES = (1, 3)


class DdimStep(nn.Module):
    """Compute one step of DDIM with eta = 0 (Song et al. 2021, Eq. 12), which step being a tensor, so that a graph can repeat it.

    x_s = sqrt(abar_s) * x0_hat + sqrt(1 - abar_s) * eps_hat

    Args:
        trained: The model, with the threshold and guidance of its own `[sample]` section.
        sampler: Which steps.
    """

    def __init__(self, trained: TrainedModel, sampler: DdimSampler) -> None:
        super().__init__()
        schedule, settings = trained.schedule, trained.config.sample
        self.network = trained.network
        self.predict = thresholded(guided_predictor(trained, settings), settings.threshold.build())
        _, path = settings.model_copy(update={"sampler": sampler}).prepare(schedule)
        self.register_buffer("steps", torch.tensor([schedule.told(level) for level in path]))
        self._register("alpha", [level.alpha for level in path])
        self._register("sigma", [level.sigma for level in path])
        self._register("snr", [level.signal / level.noise for level in path])
        self._register("half_logsnr", [level.half_logsnr for level in path])
        self.preserves_variance = all(level.power == 1.0 for level in path)
        self._register("power", [level.power for level in path])
        self._register("next_alpha", [level.alpha for level in [*path[1:], CLEAN]])
        self._register("next_sigma", [level.sigma for level in [*path[1:], CLEAN]])

    def _register(self, name: str, values: list[float]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float64).float())

    def __len__(self) -> int:
        return len(self.get_buffer("steps"))

    def forward(self, x_t: Tensor, index: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x_t [B, C, H, W] to x_s at the next step; index, int64 without dimensions, is the place of t in the list of steps."""
        batch, names = x_t.shape[0], ("alpha", "sigma", "snr", "half_logsnr", "power")
        alpha, sigma, snr, half_logsnr, power = (self.get_buffer(name)[index].expand(batch).view(-1, 1, 1, 1) for name in names)
        step = self.get_buffer("steps")[index].expand(batch)
        at = Levels(step, alpha, sigma, snr, half_logsnr, power=1.0 if self.preserves_variance else power)
        estimate = self.predict(x_t, at, labels)
        return self.get_buffer("next_alpha")[index] * estimate.x0_hat + self.get_buffer("next_sigma")[index] * estimate.eps_hat


def write(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    """Write the network, or the whole of DDIM with it, and compare it in onnxruntime with ours."""
    if options.with_sampler:
        return write_onnx_sampler(trained, path, options.steps, half=options.half)
    return write_onnx(trained, path, half=options.half)


def write_onnx(trained: TrainedModel, path: Path, *, half: bool) -> list[Comparison]:
    """Write the network, (x, t[, labels]) to its prediction, and compare it in onnxruntime with itself; EDM has t as float32.

    Raises:
        RequestError: If a package is missing or the graph is too large.
        OutputError: If the file cannot be written.
    """
    level = torch.float32 if trained.config.objective.parameterization.knows_any_level else torch.int64
    inputs = {"x": torch.zeros(2, *trained.image_shape), "t": torch.zeros(2, dtype=level), **_labels(trained, 2)}
    save_onnx(trained.network, inputs, "prediction", path, model_facts(trained, half=half), half=half)
    run = load_onnx(path, list(inputs))

    def predict(x: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return run(x, t.to(level), *labels)

    return [Comparison("prediction in onnxruntime", prediction_difference(trained, predict), TOLERANCE)]


def write_onnx_sampler(trained: TrainedModel, path: Path, steps: int | None, *, half: bool) -> list[Comparison]:
    """Write a graph from noise, x_T[, labels], to images in [-1, 1] by DDIM, and compare it with our DDIM.

    Args:
        trained: The model.
        path: The file.
        steps: Of DDIM; those of the model's own sampler if None.
        half: Whether the weights, which must be rounded already, are stored as float16.
    Raises:
        RequestError: If a package is missing, the graph is too large, or DDIM would need noise.
        OutputError: If the file cannot be written.
    """
    sampler = ddim_of(trained.config, steps)
    step = DdimStep(trained, sampler)
    metadata = model_facts(trained, half=half) | {"ddpm_sampler": sampler.model_dump_json(), "ddpm_steps": str(len(step))}
    inputs = {"x": torch.zeros(2, *trained.image_shape), **_labels(trained, 2)}
    expected = [_images(trained, sampler, batch) for batch in BATCHES]  # before tracing, which may leave its marks in caches
    save_onnx_loop(step, len(step), inputs, "images", path, metadata, half=half)
    run = load_onnx(path, ["x_T", *_labels(trained, 1)])
    differences = [float((run(*given) - images).abs().max()) for given, images in expected]
    return [Comparison(f"images of DDIM in onnxruntime, {len(step)} steps", max(differences), IMAGE_TOLERANCE)]


def _images(trained: TrainedModel, sampler: DdimSampler, batch: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """What a graph is given, and the images that it should make of it."""
    x_T, labels = seeded_noise((batch, *trained.image_shape), batch)(), _labels(trained, batch)
    images = sample_from(trained, sampler, x_T, seeded_noise(x_T.shape, 0), labels.get("labels"))
    return (x_T, *labels.values()), images


def _labels(trained: TrainedModel, batch: int) -> Mapping[str, Tensor]:
    """One label for each image, if the model takes some."""
    return {} if trained.num_classes is None else {"labels": torch.arange(batch) % trained.num_classes}
