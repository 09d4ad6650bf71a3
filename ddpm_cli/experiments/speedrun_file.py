"""Read the record of a speedrun, a config that leaves to a clock what is the clock's, and refuse what breaks its rules.

preset = "quick"          # an ordinary config file, from here ...
optimizer.lr = 5e-3
[record]                  # ... but for this section
by = "Jane Doe"
date = 2026-11-28
note = "A larger learning rate."
clock = "cpu-5min"        # what it is meant for
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ddpm_cli.config.resolve.faults import Fault, config_error, shown, translate
from ddpm_cli.config.resolve.layers import BUDGET, Layer, flatten, layer_from_tree
from ddpm_cli.config.resolve.loader import preset_tree, read_toml, validate_layers
from ddpm_cli.config.resolve.outline import NONE, default_of, join
from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.section import Section
from ddpm_cli.core.names import as_known, nearest
from ddpm_cli.experiments.sweep_file import Sweep, SweepRun, evaluate_part
from ddpm_cli.results.speedrun import Clock, Record
from ddpm_cli.runs.directory import check_run_name

CLOCKS = {
    clock.name: clock
    for clock in (
        Clock("cpu-5min", minutes=5, device="cpu", data="fashion-mnist", metric="fcd", n=5_000),
        Clock("gpu-3min", minutes=3, device="cuda", data="fashion-mnist", metric="fid", n=50_000, batch_size=512),
        Clock("gpu-10min", minutes=10, device="cuda", data="fashion-mnist", metric="fid", n=50_000, batch_size=512),
    )
}
"""All of them by name."""
SEEDS = (0, 1, 2)
FIXED = dict.fromkeys(BUDGET, "the clock alone ends a run") | {
    "train.seed": f"every record is trained with the seeds {', '.join(map(str, SEEDS))}",
    "train.device": "the clock says where to train",
    "start.weights": "every record is trained from random weights",
}
"""Keys that a record may not set, and why."""
FREE = ("horizontal_flip", "augment", "augment_by")
"""What a record may say of the data."""
OF_A_SWEEP = ("evaluate", "seeds", "base", "grid", "arms")
REMEDY = "The rules are in examples/speedrun/README.md."


class RecordSection(Section):
    """Describe the section `[record]` of the file."""

    by: str = Field(min_length=1, max_length=200, description="Who made the record.")
    date: datetime.date = Field(description="When.")
    note: str = Field("", max_length=2000, description="What is new in it.")
    clock: str = Field(description="The clock that it is meant for.")


def load_record(
    file: Path, clock: str | None = None, name: str | None = None, extractor_weights: Path | None = None
) -> tuple[Record, Clock, Sweep]:
    """Read a record, and make the sweep over its seeds that a clock asks for.

    Args:
        file: TOML.
        clock: Its name; the one that the record is meant for if None.
        name: Of the folder; those of the file and of the clock if None.
        extractor_weights: Of the Inception network; downloaded if None.
    Raises:
        ConfigError: With all rules that it breaks, and all other faults.
        RunError: If the name cannot be that of a folder.
    """
    faults: list[Fault] = []
    tree = read_toml(file, "", faults)
    if faults:
        raise config_error(faults, REMEDY)
    origin = str(file)
    section = _read_section(tree.pop("record", None), origin, faults)
    known = _find_clock(clock or (section.clock if section else None), "--clock" if clock else origin, faults)
    preset = tree.pop("preset", None)
    base = preset_tree(preset, origin, faults)
    faults += [Fault(key, "is fixed by the clock, seeds and measuring included", origin) for key in OF_A_SWEEP if key in tree]
    if faults or section is None or known is None:
        raise config_error(faults, REMEDY)
    own = layer_from_tree(tree, origin, faults)
    faults += [Fault(key, f"is not a record's to set: {why}", origin) for key, why in FIXED.items() if key in own]
    resolved = validate_layers([layer_from_tree(base, f"preset {preset}", faults), own, _layer_of(known)], faults)
    if resolved is not None:
        faults += _rules_broken(resolved.config, known, resolved.origins)
    if faults or resolved is None:
        raise config_error(faults, REMEDY)
    name = f"{file.stem}-{known.name}" if name is None else name
    check_run_name(name)
    record = Record(file, section.by, section.date.isoformat(), section.note)
    return record, known, _sweep(name, file, resolved.config, known, extractor_weights)


def _read_section(tree: Any, origin: str, faults: list[Fault]) -> RecordSection | None:
    try:
        return RecordSection.model_validate({} if tree is None else tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][-1]) if detail["loc"] else ""
            match detail["type"]:
                case "missing":
                    reason = "is missing"
                case "extra_forbidden":
                    reason = f"unknown key; {nearest(name, list(RecordSection.model_fields))}"
                case _:
                    reason = translate(detail, {}, {}).reason
            faults.append(Fault(join("record", name) if name else "record", reason, origin))
        return None


def _find_clock(name: str | None, origin: str, faults: list[Fault]) -> Clock | None:
    if name is None:
        return None
    known = CLOCKS.get(as_known(name, CLOCKS))
    if known is None:
        faults.append(Fault("record.clock", f'unknown clock "{name}"; {nearest(name, CLOCKS)}', origin))
    return known


def _layer_of(clock: Clock) -> Layer:
    """What a clock sets, over all that the preset sets."""
    budget = dict.fromkeys((key.removeprefix("train.") for key in BUDGET), "none")
    return layer_from_tree({"train": budget | {"minutes": clock.minutes, "device": clock.device}}, f"clock {clock.name}", [])


def _rules_broken(config: Config, clock: Clock, origins: Mapping[str, str]) -> Iterator[Fault]:
    kind = config.data.kind
    allowed = {"data.kind": clock.data}
    if kind == clock.data:
        keys = [join("data", name) for name in type(config.data).model_fields if name not in FREE]
        allowed |= {key: default_of(key, kind) for key in keys if key not in allowed}
    settings = flatten(config)
    for key, value in allowed.items():
        if settings[key] != (NONE if value is None else value):
            reason = f"cannot be {shown(settings[key])}: {clock.name} trains on all of {clock.data}, and on nothing else"
            yield Fault(key, reason, origins.get(key, ""))
    sampler = config.sample.sampler
    guided = 1 if config.sample.guidance.scale in (0, 1) else 2
    if (taken := guided * sampler.evaluations(config.schedule.timesteps)) > clock.most_evaluations:
        reason = f"takes {taken:,} evaluations of the network for a sample, and {clock.name} allows {clock.most_evaluations}"
        yield Fault("sample.sampler.steps", reason, origins.get("sample.sampler.steps", ""))


def _sweep(name: str, file: Path, config: Config, clock: Clock, extractor_weights: Path | None) -> Sweep:
    """The runs of a record: one arm without settings of its own."""
    runs = []
    for repeat, seed in enumerate(SEEDS):
        seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        runs.append(SweepRun(f"{file.stem}-s{seed}", file.stem, {}, seeded, repeat))
    asked: dict[str, Any] = {"metrics": (clock.metric,), "n": clock.n, "batch_size": clock.batch_size, "seed": 0}
    if extractor_weights is not None:
        asked["extractor_weights"] = str(extractor_weights)
    return Sweep(name, file, tuple(runs), evaluate_part(asked), ({},), f"ddpm speedrun {file} --clock {clock.name}")
