"""Examine what `ddpm doctor` looks at: versions, devices, compilers, extras, folders and data."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ddpm_cli._version import __version__
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.core.extras import DISTRIBUTION, install_line
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.wording import counted
from ddpm_cli.data.places import has_place, place_of
from ddpm_cli.errors import ExtensionError, RequestError
from ddpm_cli.interop.registry import known_formats
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.overview import Finding

NEEDED = ("torch", "torchvision", "accelerate", "numpy", "safetensors", "pydantic", "rich", "typer")
COMPILERS = ("g++", "clang++", "c++")
LITTLE_SPACE = 2e9
"""Bytes: a few checkpoints of a large model fill them."""
USES = {
    "metrics": "fid, kid, inception-score, precision-recall",
    "huggingface": "data sets of the Hugging Face Hub",
    "interop": "export to diffusers and ONNX, import from diffusers",
    "trackers": "TensorBoard, Weights & Biases, Trackio, MLflow",
    "report": "ddpm report",
    "peers": "ddpm bench --against",
    "test": "the tests of ddpm-cli itself",
}
"""What an extra is for; one that is not named here is listed all the same."""


def examine(runs: Path = Path("runs")) -> Iterator[Finding]:
    """Look at this machine, one thing after another.

    Args:
        runs: The folder of runs.
    """
    yield from _versions()
    yield from _extensions()
    yield from _devices()
    yield from _compilers()
    yield from examine_extras()
    yield from _folders(runs)
    yield from _data()


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "ddpm", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in NEEDED:
        try:
            yield Finding("versions", package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding("versions", package, "broken", "is not installed", f"pip install {package}")


def _extensions() -> Iterator[Finding]:
    """Load what other packages add; the first that cannot be used is told, as by any command that needs it."""
    try:
        sections(), known_metrics(), known_formats()
    except ExtensionError as error:
        yield Finding("versions", "extensions", "broken", error.message, error.remedy)


# ------------------------------------------------------------------------------------------------------------- devices


def _devices() -> Iterator[Finding]:
    try:
        from ddpm_cli.core.compute.device import available_devices

        names = available_devices()
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding("devices", "torch", "broken", f"cannot be loaded: {error}", "Install torch again: see pytorch.org.")
        return
    for name in names:
        yield _try_device(name)
    if names == ["cpu"]:
        yield Finding("devices", "GPU", "missing", "torch sees none here; training runs on the CPU")


def _try_device(name: str) -> Finding:
    """Add two numbers there: that a device is listed does not mean that it works."""
    import torch

    try:
        works = (torch.ones(2, device=name) + 1).sum().item() == 4
    except RuntimeError as error:
        return Finding("devices", name, "broken", str(error).splitlines()[0], "Choose another one with --device.")
    if not works:
        return Finding("devices", name, "broken", "adds up 1 and 1 wrongly", "Choose another one with --device.")
    return Finding("devices", name, "ok", _about_device(name))


def _about_device(name: str) -> str:
    import psutil
    import torch

    if name.startswith("cuda"):
        about = torch.cuda.get_device_properties(name)
        half = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return f"{about.name}, {about.total_memory / 1e9:.0f} GB, {half}"
    if name == "mps":
        return "Apple's GPU"
    memory = psutil.virtual_memory()
    return (
        f"{counted(torch.get_num_threads(), 'thread')} of {counted(os.cpu_count() or 1, 'core')}, "
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB of memory free"
    )


def _compilers() -> Iterator[Finding]:
    found = shutil.which(os.environ.get("CXX", "")) or next(filter(None, map(shutil.which, COMPILERS)), None)
    without = "networks run on the CPU as they are; compile = true falls back to that"
    if found is None:
        yield Finding("compiling", "C++", "missing", f"no compiler: {without}", "Install g++ or clang++.")
    else:
        yield Finding("compiling", "C++", "ok", f"{found}: torch.compile works on the CPU (train.compile = true)")
    try:
        yield Finding("compiling", "triton", "ok", f"{version('triton')}: torch.compile works on CUDA")
    except PackageNotFoundError:
        yield Finding("compiling", "triton", "missing", "not installed: torch.compile needs it on CUDA alone")


# -------------------------------------------------------------------------------------------------------------- extras


def extras() -> dict[str, list[Requirement]]:
    """List what each optional extra of the installed distribution asks for; nothing if it is run from its sources."""
    try:
        names = distribution(DISTRIBUTION).metadata.get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    return {name: _requirements(name) for name in names}


def _requirements(extra: str) -> list[Requirement]:
    """The requirements that an extra adds, those of other extras that it names among them."""
    found: list[Requirement] = []
    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if requirement.name == DISTRIBUTION:
            found += [inner for name in sorted(requirement.extras) for inner in _requirements(name)]
        else:
            found.append(requirement)
    return found


def examine_extras() -> Iterator[Finding]:
    """Examine which extras are there, and of the others the install line."""
    for name, requirements in extras().items():
        lacking = [str(problem) for requirement in requirements if (problem := _problem(requirement))]
        install = install_line(name)
        use = USES.get(name, "")
        if lacking:
            yield Finding("extras", name, "missing", f"{', '.join(lacking)}{use and f' (for {use})'}", install)
        else:
            installed = ", ".join(f"{requirement.name} {version(requirement.name)}" for requirement in requirements)
            yield Finding("extras", name, "ok", f"{installed}{use and f' (for {use})'}")


def _problem(requirement: Requirement) -> str | None:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"no {requirement.name}"
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} {found}, where {requirement.specifier} is needed"


# ------------------------------------------------------------------------------------------------------ folders and data


def _folders(runs: Path) -> Iterator[Finding]:
    remedy = "Set DDPM_CACHE to a folder that you may write to."
    try:
        yield _writable("cache", cache_directory(), remedy)
    except RequestError as error:
        yield Finding("folders", "cache", "broken", error.message, remedy)
    yield _writable("runs", runs, "Work in a folder that you may write to.")


def _writable(name: str, folder: Path, remedy: str) -> Finding:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding("folders", name, "broken", f"{folder} cannot be written to", remedy)
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / 1e9:.1f} GB free" + ("" if there == folder.absolute() else ", not made yet")
    if free < LITTLE_SPACE:
        return Finding("folders", name, "broken", text, "Free some space: checkpoints may not fit.")
    return Finding("folders", name, "ok", text)


def _data() -> Iterator[Finding]:
    with suppress(ExtensionError):  # which is a finding already
        yield from (_place(name) for name in sections()["data"] if has_place(name))


def _place(name: str) -> Finding:
    try:
        place = place_of(name)
    except RequestError as error:
        return Finding("data", name, "missing", error.message)
    if place is None:
        return Finding("data", name, "missing", f"not here: ddpm train --data {name} downloads it")
    return Finding("data", name, "ok", place)
