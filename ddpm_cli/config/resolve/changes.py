"""Say which settings may change in the middle of a run, and why the others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_cli.config.resolve.faults import Fault, config_error, shown
from ddpm_cli.config.resolve.layers import Layer, layer_from_tree, layer_from_user
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.config.resolve.outline import NONE, sections
from ddpm_cli.config.schema.config import Config

CHANGEABLE = (
    "optimizer.",
    "sample.",
    "ema.decay",
    "train.max_grad_norm",
    "train.precision",
    "train.micro_batch_size",
    "train.gradient_checkpointing",
    "train.compile",
    "train.sharding",
    "train.deterministic",
    "train.log_every",
    "train.eval_every",
    "train.sample_every",
    "train.evaluate_every",
    "train.sample_n",
    "train.patience",
    "train.trackers",
    "checkpoint.every",
    "checkpoint.keep_last",
    "checkpoint.keep_best",
)
"""Keys, and sections ending in a dot: all that changes neither what has been trained so far nor the images that come."""

_REASONS = {
    **dict.fromkeys(("data.", "train.batch_size", "train.seed"), "it decides which images come, and in which order"),
    **dict.fromkeys(
        ("model.", "schedule.", "objective.", "start.", "ema.warmup", "ema.widths"), "it is part of what has been trained so far"
    ),
    **dict.fromkeys(
        ("train.eval_images", "train.evaluate_", "train.sampler", "checkpoint.best_by"),
        "the checkpoints so far were measured with it, and the best of them would no longer compare",
    ),
}
UNKNOWN = "it is none of those that may"
_FLAGS = {"train.epochs": "--epochs", "train.steps": "--steps", "train.minutes": "--minutes", "train.device": "--device"}
_REMEDY = f"`ddpm resume` changes {', '.join(key + '*' if key.endswith('.') else key for key in CHANGEABLE)}; else start a new run."


def change(config: Config, sets: Sequence[str], flags: Mapping[str, tuple[Any, str]]) -> Config:
    """Change settings of a run that goes on.

    Args:
        config: Of the run so far.
        sets: `section.key=value` texts.
        flags: See `load_config`; these may change whatever they name.
    Raises:
        ConfigError: If a setting is no valid one, or one that cannot change in the middle of a run, saying why.
    """
    changed = override(config, sets=sets, flags=flags)
    faults = [Fault(key, why, "--set") for key in layer_from_user(sets, {}, []) if (why := refusal(key))]
    before, after = config.optimizer, changed.optimizer
    if before.moments != after.moments:
        why = (
            f"cannot change from {before.kind} to {after.kind} in the middle of a run: they keep different moments of the gradients"
        )
        faults.append(Fault("optimizer.kind", why, "--set"))
    if faults:
        raise config_error(faults, _REMEDY)
    return changed


def refusal(key: str) -> str | None:
    """Tell why a key cannot be set when a run goes on; None if it can."""
    if key == "sample.guide.model":
        return "has no place in a training: --guide-with of `ddpm sample` and `ddpm evaluate` names a guide"
    if key.startswith(CHANGEABLE):
        return None
    if key in _FLAGS:
        return f"has a flag of its own here, {_FLAGS[key]}"
    reason = next((reason for start, reason in _REASONS.items() if key.startswith(start)), UNKNOWN)
    return f"cannot change in the middle of a run: {reason}"


def as_last_said(config: Config, newest: Config) -> Config:
    """Put what was changed later into the config of a checkpoint: the run has its own config for that.

    Without this a run that was resumed with other settings, and killed before its next checkpoint, would go on without them.

    Args:
        config: Of the checkpoint.
        newest: Of the run; only what may change in the middle of a run is taken from it.
    """
    said = layer_from_tree(newest.model_dump(mode="json"), "", [])
    values = {key: entry.value for key, entry in said.items() if key.startswith(CHANGEABLE) or key in _FLAGS}
    return override(config, flags={key: (NONE if value is None else value, "config.toml") for key, value in values.items()})


def differences(before: Config, after: Config) -> list[str]:
    """List what differs between two configs, as `key = value (was value)`."""
    return [f"{key} = {value_text(now)} (was {value_text(then)})" for key, (then, now) in differing(before, after).items()]


def differing(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Find what differs between two configs: key to both values, None where there is none."""
    old, new = (layer_from_tree(config.model_dump(mode="json"), "", []) for config in (before, after))
    order = list(sections())
    keys = sorted({**old, **new}, key=lambda key: order.index(key.rpartition(".")[0]))
    values = {key: (_value(old, key), _value(new, key)) for key in keys}
    return {key: (then, now) for key, (then, now) in values.items() if then != now}


def _value(layer: Layer, key: str) -> Any:
    return layer[key].value if key in layer else None


def value_text(value: Any) -> str:
    """Write a value as a message shows it."""
    return "none" if value is None else shown(value)
