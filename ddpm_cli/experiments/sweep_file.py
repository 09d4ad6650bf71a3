"""Read the file of a sweep: which runs to make, and what to measure of each.

    preset = "quick"                       # optional, as in a config file
    seeds = [0, 1, 2]                      # train.seed of the repeats; left out: each arm is trained once, with its train.seed
    [base]                                 # what all runs have, as in a config file
    train.steps = 1000
    [grid]                                 # values to cross, by the keys of --set
    schedule = ["linear", "cosine"]
    optimizer.lr = [1e-3, 3e-3]
    [arms.wide]                            # where a cross makes no sense: arms by name, each as in a config file
    model.base_channels = 64
    [evaluate]                             # optional: what `ddpm evaluate` measures of each trained run
    metrics = ["fcd"]
    n = 2000
    [evaluate.grid]                        # optional: settings of sampling to cross, without training again
    sample.sampler.steps = [5, 10, 20]

Arms are crossed with the grid. A key may be written with dots, quoted or not, or as nested tables.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, create_model

from ddpm_cli.config.resolve.faults import DEFAULT, MOST_FAULTS, Fault, config_error, shown, translate, untold
from ddpm_cli.config.resolve.layers import Layer, as_spelt, layer_from_tree, layer_from_user
from ddpm_cli.config.resolve.loader import OpenSource, preset_tree, read_toml, validate_layers, with_source
from ddpm_cli.config.resolve.outline import all_keys, join, sections
from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.section import FilePath, Section
from ddpm_cli.core.asking import Asked, fields_of
from ddpm_cli.core.names import as_known, nearest
from ddpm_cli.errors import RunError
from ddpm_cli.evaluation.settings import EvaluateSettings, Measuring, read_request
from ddpm_cli.experiments.arm_names import arm_name
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.runs.directory import check_run_name
from ddpm_cli.sampling.request import flags_of
from ddpm_cli.training.start.source import source_opener

SEED = "train.seed"
SAMPLING = "sample."
MOST = 1000
MOST_IMAGES = 10**9 + 1
REMEDY = "See `ddpm sweep --help` for the form of the file; `ddpm config show` prints every key of a config."

Point = dict[str, Any]


Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _different(seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if seeds == ():
        raise ValueError("must name at least one seed; leave it out to train each arm once")
    twice = [seed for seed, times in Counter(seeds or ()).items() if times > 1]
    if twice:
        raise ValueError(f"has {twice[0]} twice, which would be the same experiment, not another repeat")
    return seeds


def _metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(as_known(name, known_metrics()) for name in names))


class EvaluatePart(Section):
    """Say what to measure of each trained run; beside what is here it has every field of `Measuring`, see `_read_evaluate`."""

    metrics: Annotated[tuple[str, ...], AfterValidator(_metrics)] = Field(("fcd",), min_length=1, description="Names of metrics.")
    grid: dict[str, Any] = Field({}, description="Values of sample.* keys to cross.")

    @property
    def asked(self) -> Measuring:
        """List what is not measured as usual."""
        said = {name: getattr(self, name) for name in fields_of(Measuring)}
        return cast("Measuring", {name: value for name, value in said.items() if value is not None})

    @property
    def settings(self) -> EvaluateSettings:
        """Say how the first run of an arm is measured."""
        return read_request(self.asked)[0]

    @property
    def flags(self) -> Point:
        """List the settings of sampling that hold for all points of the grid."""
        said = flags_of(read_request(self.asked)[1])
        return {key: value for key, (value, _) in said.items() if value is not None}


def _field(field: Asked) -> tuple[Any, Any]:
    """Make a field of the file of a field of a request; it is left out by None."""
    hint = field.hint
    if names := field.choices or field.said.names:
        hint = Annotated[hint, BeforeValidator(lambda name: as_known(name, names) if isinstance(name, str) else name)]
    elif Path in field.kinds:
        hint = FilePath | None
    elif int in field.kinds:
        below = MOST_IMAGES if field.said.bits is None else 2**field.said.bits
        hint = Annotated[int, Field(ge=field.said.least, lt=below)] | None
    return hint, Field(None, description=field.said.help)


_AS_WRITTEN = create_model(  # type: ignore[call-overload]
    "EvaluatePart", __base__=EvaluatePart, **{name: _field(field) for name, field in fields_of(Measuring).items()}
)


def evaluate_part(tree: Any) -> EvaluatePart:
    """Read what stands in `[evaluate]`, or the same from Python.

    Raises:
        ValidationError: With all faults.
    """
    part: EvaluatePart = _AS_WRITTEN.model_validate(tree)
    return part


def _read_evaluate(tree: Any) -> Any:
    return tree if tree is None else evaluate_part(tree)


class SweepFile(Section):
    """Hold the file as it is written."""

    preset: str | None = Field(None, description="Preset that all runs start from.")
    seeds: Annotated[tuple[Seed, ...] | None, AfterValidator(_different)] = Field(None, description="Of the repeats.")
    base: dict[str, Any] = Field({}, description="Config of all runs.")
    grid: dict[str, Any] = Field({}, description="Lists of values to cross.")
    arms: dict[str, dict[str, Any]] = Field({}, description="Configs by name.")
    evaluate: Annotated[EvaluatePart | None, BeforeValidator(_read_evaluate)] = Field(None, description="What to measure.")


@dataclass(frozen=True)
class SweepRun:
    """Hold one run of a sweep.

    Attributes:
        name: Of its folder, `<arm>-s<seed>`.
        arm: The arm that it repeats.
        settings: What makes the arm: dotted key to value.
        config: The whole config.
        repeat: Which run of its arm it is, from 0.
    """

    name: str
    arm: str
    settings: Point
    config: Config
    repeat: int = 0


@dataclass(frozen=True)
class Sweep:
    """Hold a sweep of which every run is known to be valid.

    Attributes:
        name: Of its folder below `runs/`.
        file: Where it was read from.
        runs: In the order in which they are made: every arm once, then the next seed.
        evaluate: What to measure, or None.
        points: Settings of sampling to measure with, by dotted key; one without any if there is no grid of them.
        command: That makes it, and goes on with it.
    """

    name: str
    file: Path
    runs: tuple[SweepRun, ...]
    evaluate: EvaluatePart | None
    points: tuple[Point, ...]
    command: str


def load_sweep(file: Path, name: str | None = None, runs: Path = Path("runs")) -> Sweep:
    """Read the file of a sweep and validate the whole config of every run.

    Args:
        file: TOML.
        name: Of the sweep's folder; the file's name without its suffix if None.
        runs: The folder of runs, below which start.weights may name one.
    Raises:
        ConfigError: With all faults of all runs.
        RunError: If the name cannot be that of a folder.
        RequestError: If there is nothing where the start.weights of an arm says.
    """
    name = file.stem if name is None else name
    check_run_name(name)
    faults: list[Fault] = []
    tree = read_toml(file, "", faults)
    written = _parse(tree, faults) if not faults else None
    if written is None:
        raise config_error(faults, REMEDY)
    unusable: list[Fault] = []
    base = preset_tree(written.preset, str(file), unusable)
    grid = dict(_axes(written.grid, "grid", "", faults))
    sampling = dict(_axes(written.evaluate.grid if written.evaluate else {}, "evaluate.grid", "", faults))
    unusable += _too_many(grid, sampling, written)
    if unusable:  # what follows from them would hide them
        raise config_error([*faults, *unusable], REMEDY)
    below = [layer_from_tree(base, f"preset {written.preset}", faults), layer_from_tree(written.base, "[base]", faults)]
    points = _sampling_points(written.evaluate, sampling, faults)
    arms = _arms(written, _crossed(grid), faults)
    open_source = source_opener(runs)
    made = [run for arm in arms for run in _runs_of(arm, below, written, points, open_source, faults)]
    if faults:
        raise config_error(list(dict.fromkeys(faults)), REMEDY)
    numbered = sorted(_numbered(made), key=lambda run: run.repeat)
    return Sweep(name, file, tuple(numbered), written.evaluate, tuple(points), f"ddpm sweep {file}")


def _parse(tree: Mapping[str, Any], faults: list[Fault]) -> SweepFile | None:
    try:
        return SweepFile.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        faults += [_fault(detail) for detail in details[:MOST_FAULTS]]
        faults += [untold(detail) for detail in details[MOST_FAULTS:]]
        return None


def _fault(detail: Any) -> Fault:
    if detail["type"] != "extra_forbidden":
        return translate(detail, {}, {})
    *parents, name = detail["loc"]
    known = _AS_WRITTEN.model_fields if parents else SweepFile.model_fields
    hint = "; settings of the runs stand in [base]" if name in sections() or name in all_keys() else ""
    return Fault(".".join(detail["loc"]), f"unknown key; {nearest(str(name), list(known))}{hint}")


def _too_many(grid: Mapping[str, list[Any]], sampling: Mapping[str, list[Any]], written: SweepFile) -> list[Fault]:
    runs = math.prod(map(len, grid.values())) * max(len(written.arms), 1) * len(written.seeds or (0,))
    counts = {"grid": runs, "evaluate.grid": math.prod(map(len, sampling.values()))}
    return [
        Fault(section, f"makes {count:,} runs or settings, and at most {MOST:,} are sensible; leave some values out")
        for section, count in counts.items()
        if count > MOST
    ]


# --------------------------------------------------------------------------------------------------------------- grids


def _crossed(axes: Mapping[str, list[Any]]) -> list[Point]:
    """Every combination of values; one empty one if there are none."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _axes(grid: Mapping[str, Any], section: str, path: str, faults: list[Fault]) -> Iterator[tuple[str, list[Any]]]:
    for name, values in grid.items():
        key = join(path, name)
        if isinstance(values, dict):
            yield from _axes(values, section, key, faults)
        elif not isinstance(values, list) or not values:
            faults.append(Fault(key, f"must be a list of at least one value, not {shown(values)}", f"[{section}]"))
        else:
            values = as_spelt(key, values)
            few = values[: MOST + 1]  # more are refused in any case
            twice = [value for place, value in enumerate(few) if value in few[:place]]
            faults += [Fault(key, f"has {shown(value)} twice", f"[{section}]") for value in twice[:1]]
            yield key, values


def _sampling_points(evaluate: EvaluatePart | None, axes: Mapping[str, list[Any]], faults: list[Fault]) -> list[Point]:
    if evaluate is None:
        return [{}]
    foreign = [key for key in axes if not key.startswith(SAMPLING)]
    faults += [Fault(key, "belongs to training; only sample.* keys can be crossed here", "[evaluate.grid]") for key in foreign]
    origin = "[evaluate.grid]"
    without = [key for key in axes if key in ("sample.n", "sample.batch_size")]
    faults += [Fault(key, f"has no effect on a metric; see {key.replace('sample', 'evaluate')}", origin) for key in without]
    twice = [key for key in axes if key in evaluate.flags]
    faults += [Fault(key, "is set in [evaluate] already; leave one of them out", origin) for key in twice]
    known = {key: values for key, values in axes.items() if key not in foreign}
    return [evaluate.flags | point for point in _crossed(known)]


# ---------------------------------------------------------------------------------------------------------------- arms


@dataclass(frozen=True)
class _Arm:
    name: str
    settings: Point
    layers: tuple[Layer, ...]


def _arms(written: SweepFile, points: Sequence[Point], faults: list[Fault]) -> list[_Arm]:
    named = written.arms or {"": {}}
    faults += [fault for label in written.arms for fault in _check_label(label)]
    arms: list[_Arm] = []
    names: dict[str, str] = {}  # by what an arm is, its seed aside
    for (label, tree), point in product(named.items(), points):
        by_hand = layer_from_tree(tree, f"[arms.{label}]", faults)
        crossed = layer_from_user((), {key: (value, "[grid]") for key, value in point.items()}, faults)
        settings = {key: entry.value for key, entry in by_hand.items()} | point
        shown_point = {key: value for key, value in point.items() if key != SEED}
        name = names.setdefault(json.dumps([label, shown_point], default=str), arm_name(label, shown_point, list(names.values())))
        arms.append(_Arm(name, settings, (by_hand, crossed)))
    return arms


def _check_label(label: str) -> Iterator[Fault]:
    try:
        check_run_name(label)
    except RunError as error:
        yield Fault("arms", f"{error.message} {error.remedy}")


def _runs_of(
    arm: _Arm,
    below: Sequence[Layer],
    written: SweepFile,
    sampling: Sequence[Point],
    open_source: OpenSource,
    faults: list[Fault],
) -> Iterator[SweepRun]:
    """The repeats of an arm."""
    if written.seeds is not None:
        faults += [
            Fault(SEED, "is set by `seeds` already; leave one of them out", layer[SEED].origin)
            for layer in (below[-1], *arm.layers)
            if SEED in layer
        ]
    layers = with_source([*below, *arm.layers], open_source, faults, has_preset=written.preset is not None)
    resolved = validate_layers(layers, faults)
    if resolved is None:
        return
    _check_sampling(resolved.config, sampling, faults)
    train = resolved.config.train
    for seed in written.seeds or (train.seed,):
        config = resolved.config.model_copy(update={"train": train.model_copy(update={"seed": seed})})
        yield SweepRun(f"{arm.name}-s{seed}", arm.name, arm.settings, config)


def _numbered(runs: Sequence[SweepRun]) -> Iterator[SweepRun]:
    """The runs, the repeats of each arm counted: its seeds come from `seeds`, or from the grid."""
    seen = Counter[str]()
    for run in runs:
        yield replace(run, repeat=seen[run.arm])
        seen[run.arm] += 1


def _check_sampling(config: Config, points: Sequence[Point], faults: list[Fault]) -> None:
    trained = layer_from_tree(config.model_dump(mode="json"), DEFAULT, [])
    for point in points:
        asked = layer_from_user((), {key: (value, "[evaluate]") for key, value in point.items()}, faults)
        validate_layers([trained, asked], faults, stored=True)
