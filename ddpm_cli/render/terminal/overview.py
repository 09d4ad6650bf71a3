"""Show what `ls`, `info` and `doctor` found, on a terminal and as JSON."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from rich.text import Text

from ddpm_cli.core.io.files import printable
from ddpm_cli.render.terminal.console import json_value, results, show_line
from ddpm_cli.render.terminal.format import (
    SHORT_SHA256,
    age,
    at_twice,
    duration,
    last_tenth,
    loss,
    number,
    quantity,
    setting,
    shape_text,
)
from ddpm_cli.render.terminal.tables import show_facts, show_table
from ddpm_cli.render.terminal.tuning import show_tuning
from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.results.overview import CheckpointRow, Finding, FindingState, ModelInfo, RunRow
from ddpm_cli.runs.launches import launches

NONE = "-"
STYLES: dict[FindingState, str] = {"ok": "green", "missing": "magenta", "broken": "bold red"}
STATES = {
    "finished": "green",
    "no longer paid": "green",
    "training": "cyan",
    "stopped": "magenta",
    "imported": "cyan",
    "broken": "bold red",
}
MOST_ARGUMENTS = 200
MOST_LAUNCHES = 10
MOST_STEPS = 12
"""Of what a stranger wrote."""


# ------------------------------------------------------------------------------------------------------------------ ls


def show_runs(rows: Sequence[RunRow], root: Path) -> None:
    """Print the runs below a folder, and below the table what is wrong with those that are broken."""
    if not rows:
        results.print(Text(f"No runs below {root}. Train one: ddpm train --preset quick"))
        return
    columns = ("run", "data", " steps", "state", " loss", " best metric", " size", " age")
    show_table("", columns, [_run_cells(row) for row in rows])
    for row in rows:
        if row.fault:
            show_line(f"{row.name}:", "bold red", row.fault, results)


def _run_cells(row: RunRow) -> tuple[str | Text, ...]:
    state = Text(_state(row), STATES[row.state])
    size, since = quantity(row.bytes, "B"), _ago(row.created)
    if row.fault:
        return row.name, NONE, NONE, state, NONE, NONE, size, since
    judged = loss(row.loss if row.held_out_loss is None else row.held_out_loss)
    return row.name, row.data or NONE, f"{row.step:,}", state, judged, _best(row), size, since


def _state(row: RunRow) -> str:
    """The state, with the part of the budget that is used where that says more."""
    part = "" if row.share is None else f"{row.share:.0%}"
    match row.state:
        case "training":
            return f"training {part}".strip()
        case "stopped":
            return part or "stopped"
        case "finished":
            return "done"
        case _:
            return row.state


def _best(row: RunRow) -> str:
    return NONE if row.metric is None else f"{row.metric} {row.value:.4g}"


def _ago(created: float | None) -> str:
    return NONE if created is None else age(time.time() - created)


def runs_json(rows: Iterable[RunRow]) -> dict[str, Any]:
    """Write the list as a JSON object."""
    return {"runs": [json_value(asdict(row)) for row in rows]}


def show_choices(what: str, choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what can be chosen: by name what is known of it, the same of each."""
    heads = list(next(iter(choices.values())))
    show_table("", (what, *heads), [(name, *(_cell(about[head]) for head in heads)) for name, about in choices.items()])


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# ---------------------------------------------------------------------------------------------------------------- info


def show_info(info: ModelInfo) -> None:
    """Print all of a run, a checkpoint or an exported file."""
    show_facts(f"{info.kind} {info.path}", _summary(info))
    for fault in info.faults:
        show_line("fault:", "bold red", fault, results)
    if info.settings:
        rows = [(key, _setting(value), _setting(default)) for key, (default, value) in info.settings.items()]
        show_table("settings that differ from the defaults", ("key", "value", "default"), rows)
    if facts := provenance_facts(info.provenance):
        show_facts("\nprovenance", facts)
    if info.checkpoints and info.kind == "run":
        show_table("checkpoints", (" step", "state", " size", "folder"), [_checkpoint_cells(row) for row in info.checkpoints])
    if info.figures:
        columns = ("metric", " value", " +-", " n", "sampler", " at step", "weights", " age")
        show_table("evaluations", columns, [_figure_cells(stored) for stored in info.figures])
    if info.tuning_fault:
        show_line("not tuned:", "bold magenta", info.tuning_fault, results)
    if info.tuning is not None:
        show_tuning(info.tuning)
        if info.tuned_for_others:
            text = f"the samplers were {info.tuned_for_others}. Tune again: ddpm tune-sampler"
            show_line("stale:", "bold magenta", text, results)


def _weights(stored: StoredFigure) -> str:
    """Which weights were measured, and which model guided them."""
    details = stored.figure.details
    width = f" {details['ema_width']}" if "ema_width" in details else ""
    guide = f", guide {details['guide']}" if "guide" in details else ""
    return f"{'EMA' if stored.ema else 'last'}{width}{guide}"


def _summary(info: ModelInfo) -> dict[str, str | Text]:
    facts: dict[str, str | Text] = {}
    if info.row is not None:
        facts |= _course(info.row)
    if info.outlook is not None:
        facts |= {"last tenth": last_tenth(info.outlook), "twice": at_twice(info.outlook)}
    if info.step is not None:
        of_width = "" if info.ema_width is None else f", average of width {info.ema_width:g}"
        facts["weights"] = f"of step {info.step:,}{of_width}"
    if info.parameters is not None:
        facts["parameters"] = f"{info.parameters:,}"
    if info.image_shape is not None:
        channels, height, width = info.image_shape
        facts["images"] = shape_text(height, width, channels)
    if info.pixels:
        facts["pixels"] = info.pixels
    if info.config:
        facts |= _design(info.config)
    if info.incidents:
        facts["incidents"] = ", ".join(f"{kind} {count:,}" for kind, count in info.incidents.items())
    if info.kind != "run":
        facts["sums"] = "agree with the content"
    return facts | {"size": quantity(info.bytes, "B")}


def _course(row: RunRow) -> dict[str, str | Text]:
    facts: dict[str, str | Text] = {"state": Text(row.state, STATES[row.state])}
    if row.fault:
        return facts
    part = "" if row.share is None else f", {row.share:.0%} of the budget"
    facts["trained"] = f"{row.step:,} steps in {duration(row.seconds)}{part}"
    facts["loss"] = f"{loss(row.loss)}, held out {loss(row.held_out_loss)} at best"
    if row.metric is not None:
        facts["best metric"] = _best(row)
    return facts


def _design(config: Mapping[str, Any]) -> dict[str, str | Text]:
    """The choices that a model is known by."""
    schedule, objective = config["schedule"], config["objective"]
    return {
        "schedule": f"{schedule['kind']}, T = {schedule['timesteps']:,}",
        "learns": f"{objective['parameterization']['kind']}, loss {objective['loss']['kind']}",
        "classes": _cell(config["model"]["num_classes"]),
        "sampler": str(config["sample"]["sampler"]["kind"]),
    }


def _setting(value: Any) -> str:
    return printable(setting(value))


def provenance_facts(said: Mapping[str, Any]) -> dict[str, str | Text]:
    """List what run.json tells, as far as it is of the kind that training writes."""
    facts: dict[str, str | Text] = {}
    if (created := _moment(said.get("created"))) is not None:
        facts["created"] = created
    if isinstance(command := said.get("command"), list):
        facts["command"] = shlex.join(printable(str(argument)) for argument in command[:MOST_ARGUMENTS])
    if isinstance(packages := said.get("packages"), Mapping):
        versions = {"ddpm": said.get("ddpm"), "python": said.get("python"), **packages}
        facts["versions"] = ", ".join(printable(f"{name} {number}") for name, number in versions.items())
    if said.get("precision") == "no":  # accelerate's word for it
        said = {**said, "precision": "fp32"}
    for key in ("platform", "device", "device_name", "precision", "processes", "threads", "seed"):
        if said.get(key) not in (None, ""):
            facts[key.replace("_", " ")] = printable(str(said[key]))
    if later := launches(said)[1:]:
        facts["later"] = "\n".join(_launch(one) for one in later[-MOST_LAUNCHES:])
    if isinstance(start := said.get("start"), Mapping):
        facts["starts from"] = printable(f"{start.get('origin')}, sha256 {str(start.get('sha256'))[:SHORT_SHA256]}")
    return facts | (_data(said["data"]) if isinstance(said.get("data"), Mapping) else {})


def _launch(said: Mapping[str, Any]) -> str:
    """How a run was launched otherwise than before, from a step on."""
    told = ", ".join(
        f"{key} {said[key]}" for key in ("device", "precision", "kernels", "processes", "threads", "torch") if key in said
    )
    return printable(f"from step {said['step']:,}: {told}")


def _data(said: Mapping[str, Any]) -> dict[str, str | Text]:
    count = said.get("train_images")
    images = f"{count:,}" if isinstance(count, int) else count
    facts: dict[str, str | Text] = {"data": printable(f"{said.get('name')}, {images} images to train on")}
    facts["from"] = printable(str(said.get("source")))
    facts["sha256"] = printable(str(said.get("sha256")))[:SHORT_SHA256]
    if isinstance(notices := said.get("notices"), list) and notices:
        facts["notices"] = "\n".join(printable(str(notice)) for notice in notices)
    return facts


def _moment(created: Any) -> str | None:
    if not isinstance(created, float) or not 0 <= created < 1e11:
        return None
    return datetime.fromtimestamp(created).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _checkpoint_cells(row: CheckpointRow) -> tuple[str | Text, ...]:
    state = Text("damaged", "bold red") if row.fault else Text("sound, the best" if row.best else "sound", "green")
    return f"{row.step:,}", state, quantity(row.bytes, "B"), row.path.name


def _spacing(details: Mapping[str, Any]) -> str:
    """The spacing of a figure's sampler, or its very steps, where it is not the usual one; nothing of what a stranger wrote."""
    try:
        spacing = json.loads(details["sampler_options"])["spacing"]
        steps = spacing.get("timesteps")
        if steps is None:
            return f", {printable(str(spacing['kind']))}"
        numbers = [f"{int(step)}" for step in steps]
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""
    few = numbers if len(numbers) <= MOST_STEPS else [*numbers[: MOST_STEPS // 2], "...", *numbers[-MOST_STEPS // 2 :]]
    return f" at {' '.join(few)}"


def _figure_cells(stored: StoredFigure) -> tuple[str, ...]:
    figure, details = stored.figure, stored.figure.details
    spread = figure.spread if figure.spread is not None else figure.standard_error
    sampler = f"{details['sampler']}, {details['steps']} steps{_spacing(details)}" if "sampler" in details else NONE
    return (
        figure.metric,
        number(figure.value),
        NONE if spread is None else f"{spread:.2g}",
        f"{figure.n:,}",
        sampler,
        f"{stored.step:,}",
        _weights(stored),
        _ago(stored.created),
    )


def info_json(info: ModelInfo) -> dict[str, Any]:
    """Write the same as a JSON object."""
    settings = {key: {"default": default, "value": value} for key, (default, value) in info.settings.items()}
    shown: dict[str, Any] = json_value(asdict(info) | {"settings": settings})
    return shown


# -------------------------------------------------------------------------------------------------------------- doctor


def show_findings(findings: Iterable[Finding]) -> None:
    """Print findings as they come, below the heading of each topic."""
    for topic, found in groupby(findings, key=lambda finding: finding.topic):
        show_facts(topic, {finding.name: _found(finding) for finding in found})


def _found(finding: Finding) -> Text:
    """What was found, behind a mark that tells without colours too, and below it what to do."""
    remedy = f"\n    {finding.remedy}" if finding.remedy else ""
    return Text.assemble((f"{finding.state:<8}", STYLES[finding.state]), finding.text, remedy)


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Write the same as a JSON object."""
    counts = {state: sum(finding.state == state for finding in findings) for state in get_args(FindingState)}
    return counts | {"findings": [asdict(finding) for finding in findings]}


# ---------------------------------------------------------------------------------------------------------- config diff


def show_differences(names: tuple[str, str], differences: Mapping[str, tuple[Any, Any]]) -> None:
    """Print what differs between two configs."""
    if not differences:
        results.print(Text(f"{names[0]} and {names[1]} are the same."))
        return
    show_table("", ("key", *names), [(key, *map(_setting, values)) for key, values in differences.items()])


def differences_json(names: tuple[str, str], differences: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Write the same as a JSON object."""
    return {"a": names[0], "b": names[1], "differences": {key: {"a": a, "b": b} for key, (a, b) in differences.items()}}
