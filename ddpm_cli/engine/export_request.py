"""What can be asked of an export, checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ddpm_cli.errors import RequestError
from ddpm_cli.files import require_new_folder, require_writable_parent

FORMATS = {
    "safetensors": "model.safetensors",
    "torch-export": "model.pt2",
    "onnx": "model.onnx",
    "diffusers": "model-diffusers",
}
"""With the name of what is written if none is given."""
FOLDERS = {"diffusers"}
"""Formats that are a folder; the others are a file."""
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
        raise RequestError(f"There is no export format {kind!r}.", f"Formats: {', '.join(FORMATS)}.")
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
