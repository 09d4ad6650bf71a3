"""Run the command `ddpm`: its subcommands, its global flags, and what becomes of an error.

Importing this must stay cheap: command modules import only the standard library and typer at module level.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from ddpm_cli._version import __version__
from ddpm_cli.cli.bench import bench
from ddpm_cli.cli.compare import compare
from ddpm_cli.cli.config_commands import config_app
from ddpm_cli.cli.data_commands import data_app
from ddpm_cli.cli.distill import distill
from ddpm_cli.cli.doctor import doctor
from ddpm_cli.cli.ema import ema
from ddpm_cli.cli.evaluate import evaluate
from ddpm_cli.cli.export import export
from ddpm_cli.cli.img2img import img2img
from ddpm_cli.cli.import_ import import_
from ddpm_cli.cli.info import info
from ddpm_cli.cli.inpaint import inpaint
from ddpm_cli.cli.inspect_schedule import inspect_schedule
from ddpm_cli.cli.interpolate import interpolate
from ddpm_cli.cli.ls import ls
from ddpm_cli.cli.parsing.choices import format_choices, help_with, help_with_choices, metric_choices
from ddpm_cli.cli.parsing.commands import USAGE_ERROR, Command, Group
from ddpm_cli.cli.report import report as write_report
from ddpm_cli.cli.resume import resume
from ddpm_cli.cli.sample import sample
from ddpm_cli.cli.speedrun import speedrun
from ddpm_cli.cli.streams import discard, open_streams
from ddpm_cli.cli.sweep import sweep
from ddpm_cli.cli.train import train
from ddpm_cli.cli.tune_sampler import tune_sampler
from ddpm_cli.core.launch import is_main, let_main_speak, processes, tell_launcher
from ddpm_cli.errors import DdpmError, InterruptedRunError, OutOfMemoryError, PeerLostError

HELP = """Train and sample denoising diffusion models.

For example:

  ddpm train --preset quick

  ddpm sample --n 36 --out grid.png

  ddpm inspect-schedule --compare linear,cosine
"""


GARBAGE = (50_000, 20, 100)
"""When Python looks for garbage. Its own numbers have it look 400 times while torch is imported, an eighth of that time."""


@contextmanager
def _one_usage_error() -> Iterator[None]:
    """Of several processes, which all read the same arguments, let the main one tell what is wrong with them."""
    try:
        yield
    except USAGE_ERROR as error:
        tell_launcher(str(error))
        let_main_speak()
        raise


@contextmanager
def _interrupts_told() -> Iterator[None]:
    """Make Ctrl-C or another signal an error of ours instead of typer's silent exit."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        from ddpm_cli.core.compute.signals import how_stopped, signal_of

        number = signal_of(interrupt)
        raise InterruptedRunError(f"Stopped by {how_stopped(number)}.", "", number) from interrupt


class Commands(Group):
    """Group all commands."""

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        """Parse what stands before the subcommand."""
        with _one_usage_error(), _interrupts_told():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand that `ctx` names."""
        with _one_usage_error(), _interrupts_told():
            return super().invoke(ctx)


# Plain help: typer's rich one imports four times as much as all the rest of `ddpm --help`.
app = typer.Typer(
    name="ddpm",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)
app.command(
    "train", cls=help_with_choices("data", "schedule", "model", "objective", "optimizer", "sample"), short_help="Train a model."
)(train)
app.command("sample", cls=help_with_choices("sample"), short_help="Draw images from a trained model.")(sample)
app.command("resume", cls=Command, short_help="Go on with a run that was stopped.")(resume)
app.command("distill", cls=Command, short_help="Make a model of few steps out of a trained one.")(distill)
app.command("inspect-schedule", cls=help_with_choices("schedule"), short_help="Show a noise schedule: its numbers and curves.")(
    inspect_schedule
)
app.command("interpolate", cls=Command, short_help="Draw the way from one image to another.")(interpolate)
app.command("inpaint", cls=Command, short_help="Fill a part of an image.")(inpaint)
app.command("img2img", cls=Command, short_help="Make an image anew from a given one.")(img2img)
app.command("evaluate", cls=help_with(metric_choices), short_help="Measure a trained model: its samples and likelihoods.")(evaluate)
app.command("ema", cls=Command, short_help="Make a model of any average of a run's weights.")(ema)
app.command("tune-sampler", cls=Command, short_help="Find the best sampler of few steps for a run.")(tune_sampler)
app.command("compare", cls=Command, short_help="Put runs beside each other and say whether they differ.")(compare)
app.command("sweep", cls=Command, short_help="Train every combination of settings in a file, and compare.")(sweep)
app.command("speedrun", cls=Command, short_help="Train a record by the clock with three seeds, and measure it.")(speedrun)
app.command("bench", cls=Command, short_help="Measure the speed of training and sampling here.")(bench)
app.command("report", cls=Command, short_help="Write all that a run tells into one HTML file.")(write_report)
app.command("export", cls=help_with(format_choices), short_help="Write a trained model for another program.")(export)
app.command("import", cls=Command, short_help="Make a run of a diffusers pipeline.")(import_)
app.command("ls", cls=Command, short_help="List runs, presets, and all that can be chosen.")(ls)
app.command("info", cls=Command, short_help="Tell all about a run or an exported file.")(info)
app.command("doctor", cls=Command, short_help="Say what works on this machine, and what is missing.")(doctor)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")


def show_version(wanted: bool) -> None:
    """Print the version and stop, if wanted."""
    if wanted:
        typer.echo(f"ddpm {__version__}")
        raise typer.Exit


@app.callback()
def global_flags(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    """Declare the flags that stand before the command."""


def split_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out of the arguments, wherever it stands before a lone `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + list(arguments[end:]), len(kept) < end


def run(arguments: Sequence[str], debug: bool) -> int:
    """Run one command line and return its exit status; an error is shown on stderr, with its traceback if `debug` is set."""
    try:
        app(list(arguments), prog_name="ddpm")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except DdpmError as error:
        return report(error, debug)
    except BrokenPipeError:
        raise
    except MemoryError:
        return report(OutOfMemoryError("The memory does not suffice.", "End other programs, or ask for less at a time."), debug)
    except Exception as error:  # noqa: BLE001 - the last place where a fault becomes a message
        remedy = "" if debug else "Run again with --debug for the traceback."
        return report(DdpmError(f"internal error: {type(error).__name__}: {error}", remedy), debug)
    return 0


def report(error: DdpmError, debug: bool) -> int:
    """Show the error that is being handled and return its exit status."""
    from ddpm_cli.render.terminal.console import show_error

    if isinstance(error, InterruptedRunError) and not is_main():
        return error.exit_status
    if not isinstance(error, PeerLostError):
        tell_launcher(str(error))
        let_main_speak()
    if debug:
        traceback.print_exc()
    show_error(error)
    return error.exit_status


def main() -> NoReturn:
    """Start the installed command."""
    from ddpm_cli.core.compute.signals import interrupt_on_signals

    gc.set_threshold(*GARBAGE)
    if processes() == 1:  # one of several may wait for others in a call that no signal interrupts, and has to die of it
        interrupt_on_signals()
    open_streams(with_results=is_main())
    arguments, debug = split_debug(sys.argv[1:])
    try:
        status = run(arguments, debug)
        status = flushed(status, debug)
        if processes() > 1 and status == 0:  # after an error the others may be gone
            from ddpm_cli.core.compute.team import disband

            disband()
    except BrokenPipeError:
        discard(sys.stdout)
        status = 1
    sys.exit(status)


def flushed(status: int, debug: bool) -> int:
    """Write the rest of the results; the exit status with which that leaves the command."""
    try:
        sys.stdout.flush()
    except DdpmError as error:
        return report(error, debug)
    return status
