"""What can be asked of an export, checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import require_new_folder, require_writable_parent
from ddpm_cli.core.names import nearest
from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import DdimSampler

FORMATS = {
    "safetensors": "model.safetensors",
    "torch-export": "model.pt2",
    "onnx": "model.onnx",
    "diffusers": "model-diffusers",
}
"""With the name of what is written if none is given."""
OTHER_FORMATS = dict.fromkeys(("pt2", "torch", "pt", "pytorch", "torchscript"), "torch-export")
"""What others call them."""
FOLDERS = {"diffusers"}
"""Formats that are a folder; the others are a file."""
PACKAGES = {"diffusers": ("diffusers",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
"""What formats need besides our own dependencies."""
UNKNOWN_LICENSE = "unknown"
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,49}")


@dataclass(frozen=True)
class ExportOptions:
    """What is to be written.

    Attributes:
        half: Store the weights as float16.
        check: Compare images of several samplers too, where the format is diffusers.
        with_sampler: For onnx: the whole of DDIM.
        steps: Of that; None for the run's own number.
        license_name: For diffusers' model card.
        no_limits: Lift the bounds on what the model may ask for.
    """

    half: bool = False
    check: bool = False
    with_sampler: bool = False
    steps: int | None = None
    license_name: str = UNKNOWN_LICENSE
    no_limits: bool = False


def check_request(kind: str, out: Path, options: ExportOptions) -> None:
    """Refuse what cannot be done, before a model is loaded.

    Raises:
        RequestError: For an unknown format, options of another one, or a license that is no name.
        OutputError: If nothing can be written there.
    """
    if kind not in FORMATS:
        hint = nearest(kind, FORMATS, OTHER_FORMATS)
        raise RequestError(f"There is no export format {kind!r}; {hint}.", f"Formats: {', '.join(FORMATS)}.")
    if options.with_sampler and kind != "onnx":
        raise RequestError(f"--with-sampler is for the format onnx, not {kind}.", "Add --format onnx, or leave it out.")
    if options.steps is not None and not options.with_sampler:
        raise RequestError("--steps is for --with-sampler.", "Add --format onnx --with-sampler, or leave it out.")
    if options.license_name != UNKNOWN_LICENSE and kind != "diffusers":
        raise RequestError(
            f"--license is for the model card of the format diffusers, not {kind}.", "Add --format diffusers, or leave it out."
        )
    if not _LICENSE.fullmatch(options.license_name):
        raise RequestError(
            f"{options.license_name!r} cannot be the name of a licence.", "Use a short one, such as mit or cc-by-4.0."
        )
    (require_new_folder if kind in FOLDERS else require_writable_parent)(out)
    if kind in PACKAGES:
        require_packages(f"The format {kind}", "interop", *PACKAGES[kind])


def ddim_of(config: Config, steps: int | None) -> DdimSampler:
    """A run's own DDIM, or the usual one, with so many steps, for a graph that holds it.

    Args:
        config: Of the run.
        steps: How many; those of the sampler if None.
    Raises:
        RequestError: If it adds noise or has more steps than the schedule, or if guidance changes on the way.
    """
    from ddpm_cli.config.schema.sample import DdimSampler

    own, timesteps = config.sample.sampler, config.schedule.timesteps
    sampler = own if isinstance(own, DdimSampler) else DdimSampler()
    if sampler.eta > 0:
        raise RequestError(f"The graph holds DDIM without noise, but the run's has eta {sampler.eta:g}.", "Use a run with eta = 0.")
    if config.sample.guidance.interval is not None:
        raise RequestError(
            "The graph holds one step that is repeated, but the run's guidance has an interval.", "Use a run without one."
        )
    if steps is not None and not 1 <= steps <= timesteps:
        raise RequestError(f"--steps {steps} must be from 1 to {timesteps}.", "Choose another number.")
    return sampler if steps is None else sampler.model_copy(update={"steps": steps})
