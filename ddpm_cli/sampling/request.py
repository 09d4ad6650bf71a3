"""Say how a trained model is to draw: the one spelling of what commands, Python and sweeps ask for. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

from ddpm_cli.core.asking import Said, as_option, require_fields
from ddpm_cli.core.names import as_known
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.sampling.stored_model import StoredModel
    from ddpm_cli.sampling.trained_model import TrainedModel


Flags = Mapping[str, tuple[Any, str]]
"""Settings of the config by dotted key, each with the name that messages give it; a value of None was not said."""


TUNED = "tuned"
"""Name of a sampler that stands for the one that was tuned for the model, see `tuning.tune`."""


class Drawing(TypedDict, total=False):
    """Say how images are drawn, where it is not as the model's own config says; None is the same as not said."""

    sampler: Annotated[
        str | None,
        Said(
            "NAME",
            "Sampler. The run's own if left out; `ddpm ls samplers` lists them. tuned is what `ddpm tune-sampler` found.",
            "sample.sampler",
            more=(TUNED,),
        ),
    ]
    steps: Annotated[int | None, Said("N", "Steps of the sampler.")]
    guidance: Annotated[float | None, Said("X", "1 follows the label, a larger number follows it more closely, 0 ignores it.")]
    guide_with: Annotated[
        str | None,
        Said(
            "RUN@STEP",
            "Lead samples away from those of a weaker model: an earlier checkpoint, @STEP of the model's own run, or another run.",
        ),
    ]
    guide_scale: Annotated[float | None, Said("X", "How far to go away from the guide, 1.5 if left out. 1 is without it.")]
    batch_size: Annotated[int | None, Said("N", "Images in a batch. The same images are drawn in batches of any size.")]


MAX_SEED = 10**18 - 1
MAX_SEEDS = 1_000_000
"""Images that are drawn at a time."""
MOST_COMPARED = 1000
"""Images that a comparison draws of each run."""

GUIDE = "sample.guide.model"
KEYS = {
    "sampler": "sample.sampler.kind",
    "steps": "sample.sampler.steps",
    "guidance": "sample.guidance.scale",
    "guide_with": GUIDE,
    "guide_scale": "sample.guide.scale",
    "batch_size": "sample.batch_size",
}
"""The config's keys that a drawing sets."""


def flags_of(drawing: Drawing, spelt: Callable[[str], str] = as_option) -> dict[str, tuple[Any, str]]:
    """Turn a drawing into settings of the config by dotted key, each with the name that messages give it.

    Args:
        drawing: What was asked for.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
    Raises:
        RequestError: If something else was asked for.
    """
    require_fields(Drawing, drawing)
    said: Mapping[str, Any] = dict(drawing)
    return {key: (said.get(name), spelt(name)) for name, key in KEYS.items()}


@dataclass(frozen=True)
class Way:
    """Say how one kind of drawing goes, which is no one's choice.

    Attributes:
        fixed: Settings, in the form of `flags_of`.
        usual_steps: Steps if nobody asks for a number; the sampler's own number if None.
    """

    fixed: Flags
    usual_steps: int | None = None


USUAL_JUMP = 10
FROM_NOISE = VARYING = Way({})
FILLING = Way({KEYS["sampler"]: ("ddpm", "inpaint")}, 100)
# Evenly spaced in log SNR, which is where few steps go backwards best.
_ALONG_AN_ARC: Flags = {
    KEYS["sampler"]: ("ddim", "interpolate"),
    "sample.sampler.eta": (0.0, "interpolate"),
    "sample.sampler.spacing.kind": ("logsnr", "interpolate"),
}
BETWEEN_SEEDS = Way(_ALONG_AN_ARC, 50)
BETWEEN_PICTURES = Way({**_ALONG_AN_ARC, "sample.threshold.kind": ("none", "interpolate")}, 50)
"""A threshold cannot be undone."""


class Editing(NamedTuple):
    """Hold how images are edited.

    Attributes:
        settings: Of drawing.
        label: The class of all images; None for a model without classes.
    """

    settings: SampleConfig
    label: int | None


def way_between(pictures: int) -> Way:
    """Choose the way from one end to another, of which so many are pictures and the others seeds."""
    return BETWEEN_PICTURES if pictures else BETWEEN_SEEDS


def settings_of(
    model: StoredModel | TrainedModel,
    drawing: Drawing,
    sets: Sequence[str] = (),
    spelt: Callable[[str], str] = as_option,
    way: Way = FROM_NOISE,
    on_event: Listener = ignore,
) -> SampleConfig:
    """Resolve how a model draws.

    Args:
        model: The model.
        drawing: What was asked for.
        sets: `sample.key=value` texts, see `ddpm config show`.
        spelt: See `flags_of`.
        way: Of drawing.
        on_event: Told where a tuned sampler was tuned for something else.
    Raises:
        RequestError: If the way leaves no choice of what was asked for, or no such sampler was tuned.
        ConfigError: If a value cannot be.
        ScheduleError: If the schedule has no such steps.
    """
    from ddpm_cli.build.sampler import check_steps
    from ddpm_cli.config.resolve.loader import override
    from ddpm_cli.config.schema.sample import OwnPath
    from ddpm_cli.sampling.tuning.choose import tuned_sampler, tuning_notices

    config = model.config
    taken = next((name for name, value in drawing.items() if value is not None and KEYS.get(name) in way.fixed), None)
    if taken is not None:
        value, owner = way.fixed[KEYS[taken]]
        raise RequestError(f"{spelt(taken)} has no place here: {owner} takes {value}.", "Leave it out.")
    if way.usual_steps is not None:  # below what was asked for, and of the way's own sampler
        usual: Drawing = {"sampler": way.fixed[KEYS["sampler"]][0], "steps": min(way.usual_steps, config.schedule.timesteps)}
        config = override(config, flags=flags_of(usual, spelt))
    tuning = None
    if as_known(drawing.get("sampler") or "", (TUNED,)) == TUNED:
        _refuse_other_steps(sets, spelt)
        tuning, sampler = tuned_sampler(model.origin, drawing.get("steps"), spelt)
        config = config.model_copy(update={"sample": config.sample.model_copy(update={"sampler": sampler, "path": OwnPath()})})
        drawing = {**drawing, "sampler": None, "steps": None}
    settings = override(config, sets=sets, flags={**flags_of(drawing, spelt), **way.fixed}).sample
    check_steps(config.schedule, settings.sampler)
    if settings.guide.model is None and drawing.get("guide_scale") is not None:
        remedy = f"Name one with {spelt('guide_with')} RUN@STEP."
        raise RequestError(f"{spelt('guide_scale')} has no effect without a guide.", remedy)
    if tuning is not None:
        for notice in tuning_notices(tuning, model, settings):
            on_event(notice)
    return settings


def _refuse_other_steps(sets: Sequence[str], spelt: Callable[[str], str]) -> None:
    """Refuse settings that would undo what was tuned."""
    undone = next((text for text in sets if text.strip().startswith(("sample.sampler", "sample.timesteps", "sample.path"))), None)
    if undone is not None:
        message = f'{undone.partition("=")[0].strip()} has no place beside the sampler "{TUNED}", which has steps of its own.'
        raise RequestError(message, f"Leave one of them out; {spelt('steps')} chooses among the numbers that were tuned.")


def class_names_for(label: str, model: StoredModel | TrainedModel, spelt: Callable[[str], str] = as_option) -> tuple[str, ...]:
    """List the names of the classes that a label is one of.

    Raises:
        RequestError: If the model knows none.
    """
    if model.num_classes is None:
        raise RequestError(
            f"{model.origin} was trained without class labels, so that {spelt('label')} {label} means nothing to it.",
            f"Leave {spelt('label')} out, or train a model with {spelt('set')} model.num_classes=auto.",
        )
    return model.class_names


def class_of_all(
    label: str | None, guidance: float | None, model: StoredModel | TrainedModel, spelt: Callable[[str], str] = as_option
) -> tuple[int | None, float | None]:
    """Find the class of images that are edited, and the scale of guidance; without a label they may be of any class, scale 0.

    Raises:
        RequestError: If there is no such class, or the model cannot do without one.
    """
    from ddpm_cli.data.pictures.classes import find_class

    if label is not None:
        return find_class(label, class_names_for(label, model, spelt)), guidance
    if model.num_classes is None:
        return None, guidance
    if guidance or not model.config.objective.label_dropout:
        follows = f"{spelt('guidance')} {guidance:g} follows a class"
        why = follows if guidance else f"{model.origin} has only learned images of a class"
        raise RequestError(f"{why}, and none is given.", f"Say which with {spelt('label')}.")
    return 0, 0.0


def editing_of(
    model: StoredModel | TrainedModel,
    label: str | None,
    drawing: Drawing,
    sets: Sequence[str],
    way: Way,
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> Editing:
    """Resolve how a model edits images.

    Args:
        model: The model.
        label: Class of all images, by number or name; any class if None.
        drawing: See `settings_of`, as for the others.
        sets: `sample.key=value` texts.
        way: What the edit leaves no choice of.
        spelt: See `flags_of`.
        on_event: See `settings_of`.
    Raises:
        RequestError: If what was asked for, the model and its classes do not go together; see `settings_of`.
    """
    found, scale = class_of_all(label, drawing.get("guidance"), model, spelt)
    return Editing(settings_of(model, {**drawing, "guidance": scale}, sets, spelt, way, on_event), found)


def jumps_of(steps: int, resample: int, jump: int | None) -> tuple[int, int]:
    """Choose how many steps are taken again at a time, USUAL_JUMP if nobody says, and how often: no jump fits into one step.

    Returns:
        jump, resample.
    """
    return min(USUAL_JUMP, max(steps - 1, 1)) if jump is None else jump, resample if steps > 1 else 1
