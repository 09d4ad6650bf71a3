"""Run `ddpm inspect-schedule`: show what a noise schedule does. Imports no torch, unless the schedule was learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.completion import kinds, run_names
from ddpm_cli.cli.parsing.completion import listed as listing
from ddpm_cli.cli.parsing.options import ConfigOption, JsonOption, PresetOption, SetOption, path_of
from ddpm_cli.core.names import as_known, listed

if TYPE_CHECKING:
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.render.terminal.schedule import NamedSchedule

# No sampler plays a part here, but one with more steps than T would be an error: ddpm fits any T.
NEUTRAL = ("sample.sampler={kind='ddpm', steps='none'}", "train.sampler={kind='ddpm', steps='none'}")
FORWARD = "forward.png"


def inspect_schedule(
    run: Annotated[
        Path | None,
        typer.Argument(
            parser=path_of("RUN"),
            metavar="[RUN]",
            help="Show the schedule of this run, checkpoint or exported file, as it was trained.",
            autocompletion=run_names,
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            "-k",
            metavar="KIND",
            help="The schedule. Its kinds are listed below.",
            autocompletion=kinds("schedule"),
            show_default=False,
        ),
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", "-T", metavar="T", help="Number of noise levels.", show_default=False)
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="KIND,KIND",
            help="Show several schedules beside each other.",
            autocompletion=listing(kinds("schedule")),
            show_default=False,
        ),
    ] = None,
    sets: SetOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    rows: Annotated[int, typer.Option("--rows", min=2, metavar="N", help="Steps that the table shows.")] = 11,
    on: Annotated[
        Path | None,
        typer.Option(
            "--on",
            parser=path_of("--on"),
            metavar="IMAGE",
            help="Show this picture as it is noised over t, in a row for each schedule.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="FILE",
            help="File for a plot of the curves. With --on: file for the noised picture, forward.png if left out. "
            "An older file is replaced as a whole.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all steps as CSV on stdout.")] = False,
) -> None:
    """Show a noise schedule: its numbers, its curves and what to beware of.

    --set takes any field of the config. A field of the schedule needs no section, as in --set beta_end=0.03. In a comparison each
    schedule takes those settings that it has.

    For example:

      ddpm inspect-schedule --kind linear

      ddpm inspect-schedule --kind cosine --timesteps 400 --set s=0.01

      ddpm inspect-schedule --compare linear,cosine --out plot.png

      ddpm inspect-schedule --compare linear,cosine --on photo.jpg --out x.png

      ddpm inspect-schedule --kind cosine --json

      ddpm inspect-schedule runs/quick-001 --compare linear,cosine

      ddpm inspect-schedule --kind table --set path=betas.csv --timesteps 250
    """
    _check_choices(kind, compare, as_json=as_json, as_csv=as_csv)
    if run is not None:
        _refuse_with_run({"--kind": kind, "--timesteps": timesteps, "--set": sets, "--preset": preset, "--config": config})
    from ddpm_cli.diffusion.schedules import schedule_warnings
    from ddpm_cli.render.terminal.console import show_notice
    from ddpm_cli.render.terminal.schedule import print_schedules_csv, print_schedules_json, show_schedules
    from ddpm_cli.results.events import Notice

    schedules = [] if run is None else [_of_run(run)]
    if run is None or compare is not None:
        steps = schedules[0].schedule.timesteps if schedules else timesteps
        schedules += _asked_for(kind, compare, steps, sets or (), preset, config)
    written = draw(schedules, on, out)
    if as_json:
        print_schedules_json(schedules, compared=compare is not None)
    elif as_csv:
        print_schedules_csv(schedules)
    else:
        show_schedules(schedules, rows)
    for named in schedules:
        for warning in schedule_warnings(named.schedule, max_beta=getattr(named.config, "max_beta", 0.999)):
            show_notice(Notice(f"{named.kind}: {warning}"))
    if written:
        show_notice(Notice(written))


def draw(schedules: Sequence[NamedSchedule], on: Path | None, out: Path | None) -> str:
    """Write the picture that was asked for, if any was.

    Returns:
        What to say of it.
    """
    if on is not None:
        from ddpm_cli.core.io.files import require_writable_parent
        from ddpm_cli.render.pictures.forward_strip import save_forward_strip
        from ddpm_cli.render.pictures.limits import require_picture_name

        out = out or Path(FORWARD)
        require_picture_name(out)
        require_writable_parent(out)
        save_forward_strip(on, schedules, out)
        return f"The forward process on {on} is drawn in {out}."
    if out is not None:
        from ddpm_cli.render.pictures.schedule_plot import save_schedule_plot

        save_schedule_plot(schedules, out)
        return f"Plot written to {out}."
    return ""


def _of_run(run: Path) -> NamedSchedule:
    from ddpm_cli.render.terminal.schedule import NamedSchedule
    from ddpm_cli.sampling.stored_schedule import stored_schedule

    return NamedSchedule(*stored_schedule(run))


def _asked_for(
    kind: str | None, compare: str | None, timesteps: int | None, sets: Sequence[str], preset: str | None, file: Path | None
) -> list[NamedSchedule]:
    from ddpm_cli.build.schedule import build_schedule
    from ddpm_cli.render.terminal.schedule import NamedSchedule

    configs = load_schedules(kind, compare, timesteps, sets=sets, preset=preset, file=file)
    return [NamedSchedule(schedule, build_schedule(schedule)) for schedule in configs]


def _refuse_with_run(options: Mapping[str, object]) -> None:
    from ddpm_cli.errors import RequestError

    for name, value in options.items():
        if value is not None:
            raise RequestError(
                f"{name} does not go with a run, whose schedule is what it was trained with.",
                "Leave one of them out; --compare shows other schedules beside that of a run.",
            )


def _check_choices(kind: str | None, compare: str | None, *, as_json: bool, as_csv: bool) -> None:
    from ddpm_cli.errors import RequestError

    if kind is not None and compare is not None:
        raise RequestError("--kind and --compare exclude each other.", "Name every schedule in --compare.")
    if as_json and as_csv:
        raise RequestError("--json and --csv exclude each other.", "Choose one.")


def load_schedules(
    kind: str | None, compare: str | None, timesteps: int | None, *, sets: Sequence[str], preset: str | None, file: Path | None
) -> list[ScheduleConfig]:
    """Load the schedules that the command line asks for.

    Raises:
        ConfigError: If one is not valid.
    """
    from ddpm_cli.config.resolve.loader import load_config

    sets = [_with_section(text) for text in sets]
    known = _kinds()
    kinds = listed(compare, known) if compare is not None else [kind and as_known(kind, known)]
    flag = "--kind" if compare is None else "--compare"
    # Another kind drops the options of the one before; here T is kept, so that the two can be compared.
    base = load_config(preset=preset, file=file, sets=NEUTRAL).config.schedule.timesteps
    found = []
    for name in kinds:
        mine = sets if compare is None else _sets_for(name or "", kinds, sets)
        first = [] if timesteps is not None else [f"schedule.timesteps={base}"]
        flags = {"schedule.kind": (name, flag), "schedule.timesteps": (timesteps, "--timesteps")}
        resolved = load_config(preset=preset, file=file, sets=[*first, *mine, *NEUTRAL], flags=flags)
        found.append(resolved.config.schedule)
    return found


def _kinds() -> Collection[str]:
    from ddpm_cli.config.resolve.outline import sections

    return sections()["schedule"]


def _with_section(text: str) -> str:
    """`beta_end=0.03` stands for `schedule.beta_end=0.03`; `schedule=cosine` and `train.seed=1` stay."""
    from ddpm_cli.config.resolve.outline import sections

    name = text.partition("=")[0].strip()
    return text if "." in name or name in sections() else f"schedule.{text.strip()}"


def _sets_for(kind: str, kinds: Sequence[str | None], sets: Sequence[str]) -> list[str]:
    """The settings without those that only other kinds of the comparison have."""
    from ddpm_cli.config.resolve.outline import all_keys

    def owners(text: str) -> tuple[str, ...]:
        return all_keys().get(text.partition("=")[0].strip(), ())

    return [text for text in sets if kind in owners(text) or not set(kinds) & set(owners(text))]
