"""Write the README of an exported folder: what the model is, what it was trained on, how good it is, and how to sample from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.io.files import printable
from ddpm_cli.data.scale import USUAL
from ddpm_cli.diffusion.flows import Flow
from ddpm_cli.errors import RunError
from ddpm_cli.interop.diffusers.config import derives_noise, solver_overrides
from ddpm_cli.interop.registry import UNKNOWN_LICENSE
from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.runs.directory import IMPORTED_FROM, data_facts, read_info
from ddpm_cli.runs.figures import read_figures
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.tuning.store import tuned_lists

if TYPE_CHECKING:
    from ddpm_cli.sampling.trained_model import TrainedModel

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")

_CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
license: {license}
tags: [ddpm, diffusion]
---

# {title}

A denoising diffusion model of images of {height}x{width} pixels ({channels}), {history}{half}.

## Data

{data}

## Metrics

{metrics}

## Licence

{license_text}

## Use

{use}
"""

_USE = """```python
from diffusers import DDIMPipeline, DDPMPipeline, DPMSolverMultistepScheduler

pipeline = DDPMPipeline.from_pretrained("FOLDER")
images = pipeline(batch_size=4, num_inference_steps={timesteps}).images

fast = DDIMPipeline.from_pretrained("FOLDER")
images = fast(batch_size=4, num_inference_steps={ddim_steps}{ddim}).images

pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config{solver})
images = pipeline(batch_size=4, num_inference_steps={solver_steps}).images
```

These calls give the images of `ddpm sample` from the same noise.{clipping}{left_out}
Numbers of steps should divide {timesteps}, and with fewer than all of them DDPMPipeline adds a little noise to the last image if
its scheduler's variance is "fixed_large".
"""

_USE_OF_FLOW = """```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("FOLDER")  # its scheduler is FlowMatchEulerDiscreteScheduler
images = pipeline(batch_size=4, num_inference_steps={solver_steps}).images
```

This goes along the straight path by Euler's method, as `ddpm sample --sampler euler` does with `sample.threshold=none` and
`sample.sampler.spacing=linspace`. Steps are whole ones of {timesteps} there, and a shift moves the last level twice here.{left_out}
"""

_CLIPPING = " `use_clipped_model_output` makes DDIM's noise fit the clipped image."


def model_card(trained: TrainedModel, license_name: str, *, half: bool) -> str:
    """Write the text, Markdown.

    Args:
        trained: The model; data and metrics are those of the run that it came from, as far as the run tells.
        license_name: Of the weights.
        half: Whether they are stored as float16.
    """
    run = run_of(trained.origin)
    info = _info(run)
    channels, height, width = trained.image_shape
    return _CARD.format(
        license=license_name.lower(),  # as the Hub's list has them
        license_text=_license_text(license_name),
        title=_escaped(run.name if run else trained.origin.stem),
        channels={1: "grey", 3: "colour"}.get(channels, f"{channels} channels"),
        height=height,
        width=width,
        history=_history(trained, info),
        half=", rounded to half precision" if half else "",
        data="\n".join(_data_lines(trained, info)),
        metrics="\n".join(_metric_lines(trained, run)),
        use=_use(trained),
    )


def _use(trained: TrainedModel) -> str:
    """How to draw from the folder."""
    timesteps, derives = trained.schedule.timesteps, derives_noise(trained.config.sample)
    if isinstance(trained.schedule, Flow):
        return _USE_OF_FLOW.format(timesteps=timesteps, solver_steps=min(20, timesteps), left_out=_left_out(trained))
    return _USE.format(
        timesteps=timesteps,
        ddim=", use_clipped_model_output=True" if derives else "",
        clipping=_CLIPPING if derives else "",
        left_out=_left_out(trained),
        ddim_steps=min(50, timesteps),
        solver_steps=min(20, timesteps),
        solver="".join(f", {name}={value!r}" for name, value in solver_overrides(trained.config.sample).items()),
    )


def run_of(origin: Path) -> RunDirectory | None:
    """Find the run that a checkpoint belongs to; None for an exported file."""
    run = RunDirectory(origin.absolute().parent.parent)
    return run if run.checkpoints_folder == origin.absolute().parent and run.info_path.is_file() else None


def _left_out(trained: TrainedModel) -> str:
    """The path of the run's own sampling, and lists of few steps that were tuned: a scheduler's file has no place for either."""
    path, lists = trained.config.sample.path, tuned_lists(trained.origin)
    along = "" if path.is_own else f"\n\nThe run itself is sampled along another path ({path.kind}), which these calls are not."
    return along + (_tuned(lists) if lists else "")


def _tuned(lists: Sequence[str]) -> str:
    listed = "\n".join(f"- {one}" for one in lists)
    told = (
        "`ddpm tune-sampler` has found these steps for these weights. A scheduler's file has no place for them: pass them as "
        "`timesteps=[...]` to the `set_timesteps` of a scheduler that takes them."
    )
    return f"\n\n{told}\n\n{listed}\n"


def _license_text(name: str) -> str:
    if name == UNKNOWN_LICENSE:
        return "Whoever trained these weights has not said under which licence they may be used (`ddpm export --license`)."
    return f"{_escaped(name)}, as whoever exported these weights says."


def _info(run: RunDirectory | None) -> dict[str, Any]:
    """What the run tells of itself; nothing if it is damaged or there is none."""
    try:
        return read_info(run) if run else {}
    except RunError:
        return {}


def _history(trained: TrainedModel, info: dict[str, Any]) -> str:
    """Where the weights come from."""
    origin, steps = info.get(IMPORTED_FROM), f"for {trained.step:,} steps by `ddpm`"
    averaged = "with weights averaged over training (EMA)"
    if not isinstance(origin, str):
        return f"trained {steps}, {averaged}"
    imported = f"imported from a pipeline of diffusers ({_escaped(Path(origin).name)})"
    return f"{imported} and trained further {steps}, {averaged}" if trained.step else f"{imported}, with its weights"


def _data_lines(trained: TrainedModel, info: dict[str, Any]) -> Iterator[str]:
    if IMPORTED_FROM in info:
        yield "What the imported pipeline was trained on is not known here."
        if not trained.step:  # data that it came with are only what it is measured against
            return
    facts = data_facts(info)
    name = facts.get("name")
    if trained.scale != USUAL:
        yield f"Pixels go from {trained.scale}; the network knows the ends of this range as -1 and 1, and a pipeline as 0 and 1.\n"
    further = " further" if IMPORTED_FROM in info else ""
    yield f"Trained{further} on {_escaped(name if isinstance(name, str) else trained.config.data.kind)}."
    for key, text in (("train_images", "training images"), ("test_images", "images held out")):
        if isinstance(facts.get(key), int):
            yield f"- {facts[key]:,} {text}"
    if isinstance(facts.get("sha256"), str) and facts["sha256"]:
        yield f"- SHA-256 of the training images: `{_escaped(facts['sha256'])}`"
    if trained.config.data.horizontal_flip:
        yield "- mirrored at random"
    if trained.config.data.augment:
        yield f"- augmented ({', '.join(trained.config.data.augment_by)}), each with probability {trained.config.data.augment:g}"


def _metric_lines(trained: TrainedModel, run: RunDirectory | None) -> Iterator[str]:
    figures = _figures(trained, run)
    if not figures:
        yield "These weights were not measured (`ddpm evaluate`)."
        return
    yield "| metric | value | images | against | how |"
    yield "|---|---|---|---|---|"
    for stored in figures:
        figure = stored.figure
        how = ", ".join(f"{name} {value}" for name, value in figure.details.items() if not name.endswith("sha256"))
        value = f"{figure.value:.5g}" + ("" if figure.standard_error is None else f" ± {figure.standard_error:.2g}")
        cells = (figure.metric, f"{value} {figure.unit}", f"{figure.n:,}", f"{figure.split} of {figure.data}", how)
        yield f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _figures(trained: TrainedModel, run: RunDirectory | None) -> list[StoredFigure]:
    """The newest figure of each metric of these very weights."""
    if run is None:
        return []
    of_these = [
        stored
        for stored in read_figures(run)
        if stored.ema and stored.step == trained.step and not {"guide", "ema_width"} & stored.figure.details.keys()
    ]
    return list({stored.figure.metric: stored for stored in of_these}.values())


def _escaped(text: str) -> str:
    """A stranger's text, which is not to be read as markup."""
    return _MARKUP.sub(r"\\\1", printable(text).strip())
