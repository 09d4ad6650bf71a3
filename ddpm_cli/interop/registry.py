"""List the export formats: one record each, and those that other packages add. Imports no torch.

A format of this package is its own file and a record here. Another package names its record under the entry point group
`ddpm.formats`; `examples/extending/export_format.py` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeGuard

from ddpm_cli.core.extensions import extensions, lazily

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.results.interchange import Comparison
    from ddpm_cli.sampling.trained_model import TrainedModel

UNKNOWN_LICENSE = "unknown"
Option = Literal["half", "with_sampler", "license", "tuned"]


@dataclass(frozen=True)
class ExportOptions:
    """Say what is to be written.

    Attributes:
        half: Store the weights as float16.
        check: Compare images of several samplers too, where the format is diffusers.
        with_sampler: For onnx: the whole of DDIM.
        steps: Of that; None for the run's own number.
        license_name: For diffusers' model card.
        no_limits: Lift the bounds on what the model may ask for.
        tuned: Steps of the tuned sampler that becomes the file's own; None leaves it the run's.
    """

    half: bool = False
    check: bool = False
    with_sampler: bool = False
    steps: int | None = None
    license_name: str = UNKNOWN_LICENSE
    no_limits: bool = False
    tuned: int | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """Describe an export format.

    Attributes:
        name: As `--format` takes it, and as the entry point is called.
        about: What is written, in a line.
        file_name: What is written if no name is given.
        write: Function of (trained, path, options) that writes the file, or into the new folder, and returns how what was written
            compares with the original: at least one `Comparison`. With `options.half` the weights of `trained` are rounded already.
        is_folder: Whether it is a folder; else it is a file.
        packages: What must be installed, see `require_packages`.
        extra: The extra of this distribution that they are in; empty for a format of another package.
        options: Which options it takes.
        keeps_tuning: Whether what it writes holds how the run is sampled: its path, and all that `ddpm tune-sampler` found.
        other_names: What others call it, in `plain` spelling.
    """

    name: str
    about: str
    file_name: str
    write: Callable[[TrainedModel, Path, ExportOptions], Sequence[Comparison]]
    is_folder: bool = False
    packages: tuple[str, ...] = ()
    extra: str = ""
    options: tuple[Option, ...] = ()
    keeps_tuning: bool = False
    other_names: tuple[str, ...] = ()


_OF_THIS_PACKAGE = (
    Format(
        name="safetensors",
        about="One file with weights and config, which `ddpm sample` takes.",
        file_name="model.safetensors",
        write=lazily("ddpm_cli.interop.formats.safetensors:write"),
        options=("half", "tuned"),
        keeps_tuning=True,
    ),
    Format(
        name="torch-export",
        about="The denoiser as a program of torch.export. It maps (x_t, t) to a prediction, and runs without ddpm.",
        file_name="model.pt2",
        write=lazily("ddpm_cli.interop.formats.torch_export:write"),
        options=("half",),
        other_names=("pt2", "torch", "pt", "pytorch", "torchscript"),
    ),
    Format(
        name="onnx",
        about="The denoiser as a graph for onnxruntime. With --with-sampler the graph goes from noise to images.",
        file_name="model.onnx",
        write=lazily("ddpm_cli.interop.formats.onnx:write"),
        packages=("onnx", "onnxscript", "onnxruntime"),
        extra="interop",
        options=("half", "with_sampler"),
        keeps_tuning=True,
    ),
    Format(
        name="diffusers",
        about="A folder for DDPMPipeline and DDIMPipeline, with a model card. It cannot hold every model.",
        file_name="model-diffusers",
        write=lazily("ddpm_cli.interop.diffusers.export:write"),
        is_folder=True,
        packages=("diffusers",),
        extra="interop",
        options=("half", "license"),
    ),
)


@cache
def known_formats() -> dict[str, Format]:
    """Find all formats by name: those of this package, then those of others.

    Raises:
        ExtensionError: If one of another package cannot be used.
    """
    return extensions("ddpm.formats", {format.name: format for format in _OF_THIS_PACKAGE}, _is_format, lambda format: format.name)


def _is_format(value: object) -> TypeGuard[Format]:
    return isinstance(value, Format)


def formats_with(option: Option) -> str:
    """List the formats that take an option, for a message."""
    return " or ".join(name for name, format in known_formats().items() if option in format.options)
