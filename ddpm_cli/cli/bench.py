"""Run `ddpm bench`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.completion import listed, one_of
from ddpm_cli.cli.parsing.options import ConfigOption, DeviceOption, JsonOption, PresetOption, SetOption

PRECISIONS = ("fp32", "bf16", "fp16")
PEERS = ("diffusers", "lucidrains", "smalldiffusion")
LARGEST_BATCH = 1_000_000


def bench(
    preset: PresetOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="N,N", help="Images in a batch; each number is timed.")
    ] = "1,8,32,128",
    precisions: Annotated[
        str | None,
        typer.Option(
            "--precisions",
            metavar="NAME,NAME",
            help="Number formats: fp32, bf16, fp16. If left out: fp32, and on CUDA bf16 too.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=86400, metavar="N", help="About how long to measure, in seconds.")
    ] = 30.0,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="PEER,PEER",
            help="Time other libraries in turn with ddpm: diffusers, lucidrains (denoising-diffusion-pytorch), smalldiffusion.",
            autocompletion=listed(one_of(*PEERS)),
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure how fast training and sampling are here, beside the best that the device can do.

    The command times whole training steps and whole sampling steps of a config's model, on random images. In turn with them it
    times a convolution and a matrix product. The shares of the device's peak therefore hold even if its speed drifts. Nothing is
    written.

    --against times the networks and training loops of other libraries too, and prints ratios. If diffusers can build the very
    same network as ddpm, it does. A second row, diffusers-network, then has that network in the training and sampling of ddpm,
    compiled as ddpm's own network is (train.compile, sample.compile: on CUDA). It needs: pip install 'ddpm-cli[peers]'

    For example:

      ddpm bench --preset quick

      ddpm bench --preset quick --batch-sizes 32,64 --seconds 10 --json

      ddpm bench --preset quick --batch-sizes 32 --against diffusers,lucidrains
    """
    from ddpm_cli.bench.request import BenchRequest, check_bench
    from ddpm_cli.config.resolve.loader import load_config

    sizes = batch_sizes_of(batch_sizes)
    formats = names_of("--precisions", precisions, PRECISIONS)
    peers = names_of("--against", against, PEERS)
    resolved = load_config(preset=preset, file=config, sets=sets or [], flags={"train.device": (device, "--device")}).config

    request = BenchRequest(sizes, formats, seconds, peers)
    check_bench(resolved, request)

    from ddpm_cli.bench.run import run_bench
    from ddpm_cli.render.terminal.bench import BenchView, benchmark_json, show_benchmark
    from ddpm_cli.render.terminal.console import print_json

    with BenchView() as view:
        found = run_bench(resolved, request, on_event=view)
    if json:
        print_json(benchmark_json(found))
    else:
        show_benchmark(found)


def batch_sizes_of(text: str) -> list[int]:
    """Parse the numbers of `--batch-sizes`.

    Raises:
        RequestError: If one is no whole number, or none that can be a batch.
    """
    from ddpm_cli.errors import RequestError

    sizes = []
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= LARGEST_BATCH:
            raise RequestError(
                f"--batch-sizes takes whole numbers from 1 to {LARGEST_BATCH:,}, not {part.strip()!r}.",
                "Separate them by commas: --batch-sizes 1,8,32",
            )
        sizes.append(int(part))
    return sizes


def names_of(option: str, text: str | None, known: Collection[str]) -> list[str]:
    """Split the names that an option lists, each once; none if it was not given.

    Raises:
        RequestError: If one is not among `known`.
    """
    from ddpm_cli.core.names import listed, nearest
    from ddpm_cli.errors import RequestError

    names = [] if text is None else listed(text, known)
    for name in names:
        if name not in known:
            raise RequestError(f"{option} does not know {name!r}; {nearest(name, known)}.", "Separate names by commas.")
    return names
