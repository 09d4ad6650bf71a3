"""Load a trained model in Python, and draw from it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, Unpack

import numpy as np

from ddpm_cli.api.arguments import (
    Settings,
    as_argument,
    as_given_path,
    as_list,
    as_number,
    as_path,
    as_share,
    as_text,
    as_whole,
    sampling_sets,
)
from ddpm_cli.api.training import Run
from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.core.compute.team import Team
from ddpm_cli.data.pictures.classes import find_class
from ddpm_cli.data.sources.model_picture import read_model_picture
from ddpm_cli.data.sources.one_picture import read_mask
from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.render.pictures.npz import npz_of, require_npz
from ddpm_cli.render.terminal.console import show_notices
from ddpm_cli.render.terminal.sampling import SamplingView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.courses import Course, FromNoise
from ddpm_cli.sampling.edits import Edit, Filling, Interpolation, Variation
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import Frames, labels_from_seeds, load_trained
from ddpm_cli.sampling.guide import guided_model
from ddpm_cli.sampling.parallel import shared_samples
from ddpm_cli.sampling.request import (
    FILLING,
    FROM_NOISE,
    MAX_SEED,
    MAX_SEEDS,
    VARYING,
    Drawing,
    Editing,
    Way,
    editing_of,
    settings_of,
    way_between,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.sampling.generate import FrameListener
    from ddpm_cli.sampling.trained_model import TrainedModel

Labels = int | str | Sequence[int | str]
Picture = Union[str, Path, "NDArray[Any]"]
ALL_NOISE = FromNoise()


def load(run: Run | str | Path | None = None, *, device: str = "auto", ema: bool = True, runs: str | Path = "runs") -> Model:
    """Load a trained model.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported `.safetensors` file; the newest run
            if None.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        ema: Take the averaged weights, which give better images than the last ones.
        runs: The folder of runs.
    Raises:
        RunError: If there is no such run, or it has no checkpoint yet.
        CheckpointError: If the file is damaged, or its weights do not fit its config.
        DeviceError: If this machine lacks the device.
    """
    path = run.path if isinstance(run, Run) else as_path(run, "run")
    return Model(
        load_trained(
            path, resolve_device(as_text(device, "device")), ema=ema, runs=as_given_path(runs, "runs"), on_event=show_notices
        )
    )


class Model:
    """Hold a trained model, on its device, ready to sample; made by `load`.

    An image depends on its seed, and its class, alone: not on the others that are drawn with it, nor on the batch size.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._trained = trained

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        return f"Model({str(self.origin)!r}, step {self.step:,}, images {height}x{width}x{channels})"

    @property
    def network(self) -> nn.Module:
        """Give the network: it takes x_t [B, C, H, W], t int64 [B], and labels int64 [B] if it was trained with classes."""
        return self._trained.network

    @property
    def schedule(self) -> Schedule:
        """Give the noise schedule that it was trained with."""
        return self._trained.schedule

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Tell channels, height and width of its images."""
        return self._trained.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class that it takes as a label; none if it takes no labels."""
        return () if self._trained.num_classes is None else self._trained.class_names

    @property
    def scale(self) -> Scale:
        """Tell how the values of its images are stored, and which of them are black and white."""
        return self._trained.scale

    @property
    def step(self) -> int:
        """Count the optimizer steps that it was trained for."""
        return self._trained.step

    @property
    def origin(self) -> Path:
        """Tell the checkpoint or file that it came from."""
        return self._trained.origin

    def sample(
        self,
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        labels: Labels | None = None,
        npz: str | Path | None = None,
        set: Settings | None = None,
        no_limits: bool = False,
        progress: bool = True,
        on_event: Listener = ignore,
        **drawing: Unpack[Drawing],
    ) -> NDArray[Any]:
        """Draw images out of noise (DDPM, Alg. 2), as `ddpm sample` does.

        Args:
            n: Images, at least 1, with the seeds 0 to n - 1; `sample.n` of the run's config if there are no seeds either.
            seeds: One for each image instead, each in [0, 10**18).
            labels: Class by number or name, one for all images or one for each; class number seed modulo the number of classes
                if None. For a model that was trained with classes.
            npz: File to write them to as well: `arr_0`, uint8 [N, H, W, 3], and classes as `arr_1`, int64 [N], as the evaluator of
                guided-diffusion and `ddpm_cli.evaluate` read them. Grey is repeated in three channels.
            set: Fields of the config's section `sample` by dotted key, such as {"sample.threshold": "dynamic"}.
            no_limits: Lift the limits on the images, time and memory that the run or file may ask for.
            progress: Show a bar on stderr if that is a terminal.
            on_event: Told of `SampleProgress` for each denoising step of each batch.
            drawing: `sampler`, a name such as "ddim" (see `ddpm ls samplers`); `steps` of it, in [1, T]; `guidance`, the scale
                of classifier-free guidance: 1 follows the label, more does so closely, 0 ignores it; `guide_with`, a weaker
                model to lead samples away from, "RUN@STEP", or "@STEP" of this model's own run, and `guide_scale`, 1.5 if left
                out (Karras et al. 2024, autoguidance); `batch_size`, images at a time, at least 1, which does not change them.
                Each is as in the run's config if None or left out.
        Returns:
            Images in the order of the seeds, NumPy [N, H, W, C], uint8 in [0, 255] unless `scale` says otherwise; C is 1 for grey
            ones. `scale.view_array(images)` shows those of other depths in 8 bits.
        Raises:
            RequestError: If a number is out of its range, there is no such sampler, class or field, or the model asks for more
                images, time or memory than it may.
            OutOfMemoryError: With the largest batch that there is memory for.
            OutputError: If `npz` cannot be written, or the images are neither grey nor RGB.
        """
        settings = self._settings(drawing, set)
        model, path = self._with_guide(settings), as_path(npz, "npz")
        chosen = model._affordable_seeds(n, seeds, settings, no_limits, on_event)
        if path is not None:
            require_npz(path, len(chosen), self.image_shape)
        images = model._draw(chosen, labels, settings, progress, on_event)
        if path is not None:
            by_seed = labels_from_seeds(chosen, self._trained.num_classes) or None
            classes = by_seed if labels is None else self._labels(labels, len(chosen))
            with npz_of(path, len(chosen), self.image_shape, classes) as add:
                add(self.scale.view_array(images.transpose(0, 3, 1, 2)))
        return images

    def trajectory(
        self,
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        labels: Labels | None = None,
        set: Settings | None = None,
        no_limits: bool = False,
        **drawing: Unpack[Drawing],
    ) -> NDArray[Any]:
        """Draw the images that `sample` draws, and keep how they came out of noise.

        Args:
            n: See `sample`, as for the others.
            seeds: One for each image.
            labels: One for all images or one for each.
            set: Fields of the config's section `sample`.
            no_limits: Lift the limits.
            drawing: Sampler, steps, guidance, guide and batch size.
        Returns:
            The view in 8 bits of x_s after up to 60 of the steps, evenly spread; the last are the images. NumPy uint8
            [F, N, H, W, C].
        Raises:
            RequestError: See `sample`.
            OutOfMemoryError: See `sample`.
        """
        settings, frames = self._settings(drawing, set), Frames()
        model = self._with_guide(settings)
        chosen = model._affordable_seeds(n, seeds, settings, no_limits, ignore)
        model._draw(chosen, labels, settings, progress=False, on_frame=frames)
        return np.stack([_channels_last(frame) for frame in frames.stacked()])

    def interpolate(
        self,
        first: Picture | int,
        last: Picture | int,
        n: int = 11,
        *,
        label: int | str | None = None,
        resize: bool = False,
        set: Settings | None = None,
        no_limits: bool = False,
        progress: bool = True,
        on_event: Listener = ignore,
        **drawing: Unpack[Drawing],
    ) -> NDArray[Any]:
        """Draw the way from one image to another (DDPM, Fig. 8; DDIM, Sec. 5.3), as `ddpm interpolate` does.

        Args:
            first: A picture file, an image [H, W, C] as `sample` returns it, or the seed of an image.
            last: Likewise.
            n: Images on the way, both ends included, at least 2.
            label: Class of all images, by number or name; any class if None.
            resize: Bring picture files to the model's size, cut about the middle, and to grey if its images are.
            set: See `sample`, as for those below.
            no_limits: Lift the limits.
            progress: Show a bar on stderr if that is a terminal.
            on_event: Told of `SampleProgress`.
            drawing: `steps` of DDIM, 50 if left out, and all else as for `sample`; the sampler is DDIM.
        Returns:
            Images from first to last, NumPy [n, H, W, C], see `sample`.
        Raises:
            RequestError: If a number, class or field cannot be; see `sample`.
            DataError: If a picture cannot be read or is not what the model makes.
        """
        images = as_whole(n, "n", 2, MAX_SEEDS)
        ends = [self._end(end, name, resize) for end, name in ((first, "first"), (last, "last"))]
        editing = self._editing(label, drawing, set, way_between(sum(not isinstance(end, int) for end in ends)))
        return self._edited(Interpolation(ends, images), editing, list(range(images)), no_limits, progress, on_event)

    def inpaint(
        self,
        image: Picture,
        mask: str | Path | NDArray[np.bool_],
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        resample: int = 10,
        jump: int | None = None,
        label: int | str | None = None,
        resize: bool = False,
        set: Settings | None = None,
        no_limits: bool = False,
        progress: bool = True,
        on_event: Listener = ignore,
        **drawing: Unpack[Drawing],
    ) -> NDArray[Any]:
        """Fill a part of an image so that it goes with the rest (RePaint, Lugmayr et al. 2022), as `ddpm inpaint` does.

        Args:
            image: A picture file, or an image [H, W, C] as `sample` returns it.
            mask: A picture file of the same size, white where to fill, or bool [H, W].
            n: Fillings, at least 1, with the seeds 0 to n - 1; one if there are no seeds either.
            seeds: One for each filling instead.
            resample: How many times steps are taken, at least 1.
            jump: Steps that are taken again at a time, at least 1; 10 if None.
            label: See `interpolate`, as for those below.
            resize: Bring picture files to the model's size.
            set: Fields of the config's section `sample`.
            no_limits: Lift the limits.
            progress: Show a bar on stderr if that is a terminal.
            on_event: Told of `SampleProgress`.
            drawing: `steps` from noise to image, 100 if left out, and all else as for `sample`; the sampler is ancestral.
        Returns:
            Fillings in the order of the seeds, NumPy [N, H, W, C], see `sample`.
        Raises:
            RequestError: If a number, class or field cannot be; see `sample`.
            DataError: If a picture cannot be read, is not what the model makes, or the mask is white nowhere.
        """
        resample, jump = as_whole(resample, "resample"), None if jump is None else as_whole(jump, "jump")
        editing, pixels = self._editing(label, drawing, set, FILLING), self._picture(image, resize)
        unknown = self._mask(mask, resize)
        chosen = self._seeds(1 if n is None and seeds is None else n, seeds, editing.settings)
        filling = Filling(pixels, unknown, len(chosen), resample, jump)
        return self._edited(filling, editing, chosen, no_limits, progress, on_event)

    def img2img(
        self,
        image: Picture,
        strength: float = 0.5,
        n: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        label: int | str | None = None,
        resize: bool = False,
        set: Settings | None = None,
        no_limits: bool = False,
        progress: bool = True,
        on_event: Listener = ignore,
        **drawing: Unpack[Drawing],
    ) -> NDArray[Any]:
        """Make an image anew that keeps what is coarse in a given one (SDEdit, Meng et al. 2022), as `ddpm img2img` does.

        Args:
            image: A picture file, or an image [H, W, C] as `sample` returns it.
            strength: Share of the sampler's steps that are taken, in [0, 1]: 0 keeps the image, 1 forgets it.
            n: Variants, at least 1, with the seeds 0 to n - 1; one if there are no seeds either.
            seeds: One for each variant instead.
            label: See `interpolate`, as for those below.
            resize: Bring picture files to the model's size.
            set: Fields of the config's section `sample`.
            no_limits: Lift the limits.
            progress: Show a bar on stderr if that is a terminal.
            on_event: Told of `SampleProgress`.
            drawing: See `sample`.
        Returns:
            Variants in the order of the seeds, NumPy [N, H, W, C], see `sample`.
        Raises:
            RequestError: If a number, class or field cannot be; see `sample`.
            DataError: If the picture cannot be read or is not what the model makes.
        """
        strength = as_share(strength, "strength")
        editing, pixels = self._editing(label, drawing, set, VARYING), self._picture(image, resize)
        chosen = self._seeds(1 if n is None and seeds is None else n, seeds, editing.settings)
        return self._edited(Variation(pixels, strength, len(chosen)), editing, chosen, no_limits, progress, on_event)

    def _editing(self, label: int | str | None, drawing: Drawing, set: Settings | None, way: Way) -> Editing:
        if drawing.get("guidance") is not None:
            as_number(drawing["guidance"], "guidance")
        named = None if label is None else label if isinstance(label, str) else str(as_whole(label, "label", 0))
        return editing_of(self._trained, named, drawing, sampling_sets(set), way, as_argument, show_notices)

    def _edited(
        self, edit: Edit, editing: Editing, seeds: list[int], no_limits: bool, progress: bool, on_event: Listener
    ) -> NDArray[Any]:
        model = self._with_guide(editing.settings)
        model._require(edit.demand(model._trained, editing), editing.settings, no_limits, on_event)
        with SamplingView("looking for the noise of the pictures") as view:
            course = edit.course(model._trained, editing, together(view if progress else ignore, on_event))
        return model._draw(seeds, editing.label, editing.settings, progress, on_event, course=course)

    def _with_guide(self, settings: SampleConfig) -> Model:
        """Give the model with the guide that settings name; itself if they name none."""
        return Model(guided_model(self._trained, settings, as_argument, show_notices)) if settings.guide.model else self

    def _require(self, demand: Demand, settings: SampleConfig, no_limits: bool, on_event: Listener) -> None:
        require_affordable(
            self._trained, settings, demand, Bounds(lifted=no_limits, spelt=as_argument), together(show_notices, on_event)
        )

    def _end(self, end: Picture | int, name: str, resize: bool) -> NDArray[Any] | int:
        """Take an end of an interpolation: a picture, or the seed of an image."""
        return self._picture(end, resize, name) if isinstance(end, str | Path | np.ndarray) else as_whole(end, name, 0, MAX_SEED)

    def _picture(self, image: Picture, resize: bool, name: str = "image") -> NDArray[Any]:
        """Take an image as the model has it, [C, H, W] as stored."""
        if isinstance(image, np.ndarray):
            channels, height, width = self.image_shape
            stored = self.scale.stored
            if image.dtype != np.dtype(stored) or image.shape != (height, width, channels):
                raise ShapeError(
                    f"The model makes images {stored} {[height, width, channels]}, not {image.dtype} {list(image.shape)}.",
                    "Give one of that shape, or a picture file with resize=True.",
                )
            return np.ascontiguousarray(image.transpose(2, 0, 1))
        background = getattr(self._trained.config.data, "background", "white")
        return read_model_picture(
            as_given_path(image, name), self.image_shape, self.scale, resize=resize, background=background, spelt=as_argument
        )

    def _mask(self, mask: str | Path | NDArray[np.bool_], resize: bool) -> NDArray[np.bool_]:
        if not isinstance(mask, np.ndarray):
            return read_mask(as_given_path(mask, "mask"), self.image_shape[1:], resize=resize, spelt=as_argument)
        if mask.dtype != np.bool_ or mask.shape != self.image_shape[1:] or not mask.any():
            raise ShapeError(
                f"A mask is bool {list(self.image_shape[1:])} and true somewhere, not {mask.dtype} {list(mask.shape)}.",
                "Make it true where to fill.",
            )
        return mask

    def _settings(self, drawing: Drawing, settings: Settings | None, way: Way = FROM_NOISE) -> SampleConfig:
        return settings_of(self._trained, drawing, sampling_sets(settings), as_argument, way, show_notices)

    def _seeds(self, n: int | None, seeds: Sequence[int] | None, settings: SampleConfig) -> list[int]:
        if n is not None and seeds is not None:
            raise RequestError("seeds says which images to draw, so that n has no place beside it.", "Leave one of them out.")
        if seeds is None:
            return list(range(settings.n if n is None else as_whole(n, "n", 1, MAX_SEEDS)))
        found = [as_whole(seed, "A seed", 0, MAX_SEED) for seed in as_list(seeds, "seeds")]
        if not found:
            raise RequestError("There must be at least one image to draw.", "Give a positive n, or seeds.")
        return found

    def _affordable_seeds(
        self, n: int | None, seeds: Sequence[int] | None, settings: SampleConfig, no_limits: bool, on_event: Listener
    ) -> list[int]:
        """Choose the seeds of images out of noise, unless these are more than the model may ask for."""
        chosen = self._seeds(n, seeds, settings)
        demand = Demand.of(self._trained, settings, len(chosen), images_from_file=n is None and seeds is None)
        self._require(demand, settings, no_limits, on_event)
        return chosen

    def _labels(self, labels: Labels, images: int) -> list[int]:
        if not self.class_names:
            raise RequestError(
                f"{self.origin} was trained without class labels, so that they mean nothing to it.",
                'Leave labels out, or train a model with set={"model.num_classes": "auto"}.',
            )
        alike = isinstance(labels, str | Integral)
        return [self._class(label) for label in ([labels] * images if alike else as_list(labels, "labels"))]

    def _class(self, label: object) -> int:
        if isinstance(label, str):
            return find_class(label, self.class_names)
        return as_whole(label, "A label", 0, len(self.class_names) - 1)

    def _draw(
        self,
        seeds: list[int],
        labels: Labels | None,
        settings: SampleConfig,
        progress: bool,
        on_event: Listener = ignore,
        on_frame: FrameListener | None = None,
        course: Course = ALL_NOISE,
    ) -> NDArray[Any]:
        classes = None if labels is None else self._labels(labels, len(seeds))
        with SamplingView() as view:
            listen = together(view if progress else ignore, on_event)
            batches = shared_samples(
                Team(), self._trained, seeds, settings, labels=classes, course=course, on_event=listen, on_frame=on_frame
            )
            return _channels_last(np.concatenate([batch.numpy() for batch in batches]))


def _channels_last(images: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
