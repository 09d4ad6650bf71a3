"""Runs that start from a trained model: what they begin with, what they keep frozen, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_runs import stop_at
from tiny_configs import FEW_IMAGES, NETWORK, TINY, as_sets, tiny_config

from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.side_by_side import computing_threads
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset, ImageSet
from ddpm_cli.errors import ConfigError, InterruptedRunError, RequestError, RunError
from ddpm_cli.results.events import Event, Notice, TrainProgress
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.start.source import source_opener
from ddpm_cli.training.train import resume, train
from ddpm_cli.training.trainer import Trainer

FROZEN = "down.0"
ELSEWHERE = as_sets(
    {key: value for key, value in (TINY | FEW_IMAGES).items() if key not in NETWORK and not key.startswith("data.")}
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of labelled clothes, with attention, and other data beside it."""
    folder = tmp_path_factory.mktemp("place") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_CACHE", str(folder.parent / "cache"))
        sets = ("model.num_classes=auto", "model.attention_resolutions=[7]", "train.steps=4", "ema.decay=0.5", "schedule=cosine")
        train(tiny_config(*sets), runs=folder, name="clothes")
        draws = np.random.default_rng(0)
        images = draws.integers(0, 255, (20, 40, 40, 3), np.uint8)
        np.savez(folder.parent / "colour.npz", images=images, test_images=images[:4])
        yield folder


def started(runs: Path, *sets: str) -> Config:
    """A config that starts from the run, with its network."""
    settings = [*ELSEWHERE, "start.weights=clothes", "train.steps=2", *sets]
    return load_config(sets=settings, open_source=source_opener(runs)).config


def on_clothes(runs: Path, *sets: str) -> Config:
    return started(runs, "data.kind=fashion-mnist-10k", "data.limit=40", *sets)


def on_colour(runs: Path, *sets: str) -> Config:
    return started(runs, "data.kind=arrays", f"data.path='{runs.parent / 'colour.npz'}'", *sets)


def weights_of(run: Path, group: str = "model") -> dict[str, torch.Tensor]:
    return latest_checkpoint(RunDirectory(run)).tensors(group)


def told(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def test_a_run_begins_with_the_averaged_weights_and_a_fresh_optimizer(runs: Path, tmp_path: Path) -> None:
    config = on_clothes(runs, "optimizer.lr=1e-30")
    assert config.model.num_classes == "auto"
    assert config.schedule.kind == "cosine"
    train(config, runs=tmp_path, name="run")
    averaged, now = weights_of(runs / "clothes", "ema"), weights_of(tmp_path / "run")
    for name, value in averaged.items():
        torch.testing.assert_close(now[name], value, rtol=0, atol=1e-12)
    assert any(not torch.equal(averaged[name], last) for name, last in weights_of(runs / "clothes").items())
    steps = [value for name, value in weights_of(tmp_path / "run", "optimizer").items() if name.endswith(".step")]
    assert {int(step) for step in steps} == {2}
    assert latest_checkpoint(RunDirectory(tmp_path / "run")).state["ema_updates"] == 2


def test_run_json_says_from_what_and_names_every_weight(runs: Path, tmp_path: Path) -> None:
    notices: list[str] = []
    train(
        on_colour(runs),
        runs=tmp_path,
        name="run",
        on_event=lambda event: notices.append(event.message) if isinstance(event, Notice) else None,
    )
    start, source = told(tmp_path / "run")["start"], weights_of(runs / "clothes", "ema")
    assert start["weights"] == str(runs / "clothes")
    assert start["origin"].endswith("step-00000004")
    assert start["step"] == 4
    assert len(start["sha256"]) == 64
    assert {*start["adapted"]} == {"conv_in.weight", "conv_out.weight", "conv_out.bias"}
    assert {*start["left"]} == {"label_embedding.weight"}
    assert {*start["taken"], *start["adapted"], *start["left"]} == {*source}
    assert {*start["taken"], *start["adapted"], *start["new"]} == {*weights_of(tmp_path / "run")}
    assert any("Not taken: label_embedding.weight" in notice for notice in notices)
    assert any("step-00000004" in notice and "1 channel to 3" in notice for notice in notices)


def test_attention_stays_at_its_level_and_the_config_can_be_run_again(runs: Path, tmp_path: Path) -> None:
    train(on_colour(runs), runs=tmp_path, name="run")
    written = tmp_path / "run" / "config.toml"
    config = from_toml_text(written.read_text())
    assert getattr(config.model, "attention_resolutions") == (10,)  # noqa: B009 - half of 40, behind a stem of 2, at the second level
    assert config.model.num_classes is None
    assert config.start.weights == runs / "clothes"
    train(load_config(file=written, open_source=source_opener(tmp_path)).config, runs=tmp_path, name="again")
    first, again = (weights_of(tmp_path / name) for name in ("run", "again"))
    assert [name for name in first if not torch.equal(first[name], again[name])] == []


def test_a_config_says_none_where_the_source_says_otherwise(runs: Path) -> None:
    """Read again over the source, what is left out would be what that has."""
    config = on_clothes(runs, "model.num_classes=none")
    assert config.model.num_classes is None
    file = runs.parent / "written.toml"
    file.write_text(to_toml(config))
    assert load_config(file=file, open_source=source_opener(runs)).config == config


def test_a_preset_keeps_its_own_network(runs: Path) -> None:
    config = load_config(preset="quick", sets=["start.weights=clothes"], open_source=source_opener(runs)).config
    assert getattr(config.model, "base_channels") == 32  # noqa: B009
    assert config.start.weights == runs / "clothes"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_weights_stay_and_a_stopped_run_ends_with_the_same_bits(runs: Path, tmp_path: Path, optimizer: str) -> None:
    sets = (f"start.freeze={FROZEN}", f"optimizer.kind={optimizer}", "optimizer.weight_decay=0.1", "train.steps=6")
    config = on_clothes(runs, *sets)
    train(config, runs=tmp_path / "whole", name="run")
    with pytest.raises(InterruptedRunError):
        train(config, runs=tmp_path / "parts", name="run", on_event=stop_at(3))
    resume(tmp_path / "parts" / "run")
    for group in ("model", "ema", "optimizer"):
        whole, parts = (weights_of(tmp_path / name / "run", group) for name in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    source, frozen = weights_of(runs / "clothes", "ema"), told(tmp_path / "whole" / "run")["start"]["frozen"]
    model = weights_of(tmp_path / "whole" / "run")
    assert "conv_in.weight" in frozen
    assert [name for name in frozen if not torch.equal(model[name], source[name])] == []
    free = [name for name in model if name.startswith("up.") and name.endswith("conv_in.weight")]
    assert free
    assert not [name for name in free if torch.equal(model[name], source[name])]
    moments = weights_of(tmp_path / "whole" / "run", "optimizer")
    assert len({name.split(".")[0] for name in moments}) == len(model) - len(frozen)


def test_passes_side_by_side_leave_frozen_weights_alone(runs: Path) -> None:
    config = on_clothes(runs, f"start.freeze={FROZEN}", "train.batch_size=32", "model.num_classes=none")
    draws = np.random.default_rng(0)
    images = ImageSet(draws.integers(0, 255, (40, 1, 28, 28), np.uint8), np.zeros(40, np.int64), ("all",))
    dataset = Dataset("noise", "noise", images, images, "0" * 64)

    def steps_with(threads: int) -> Trainer:
        with computing_threads(threads):
            trainer = Trainer(config, dataset, make_accelerator("cpu", "fp32"))
            assert (trainer.side_by_side is not None) == (threads == 2)
            for _ in range(2):
                trainer.train_step()
        return trainer

    one, two = steps_with(1), steps_with(2)
    assert two.side_by_side is not None
    free = [{name for name, weight in network.named_parameters() if weight.requires_grad} for network in two.side_by_side.networks]  # type: ignore[attr-defined]
    assert free[0] == free[1] != {name for name, _ in one.model.named_parameters()}
    for (name, first), (_, second) in zip(one.model.named_parameters(), two.model.named_parameters(), strict=True):
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-5)
        assert second.grad is None or name in free[0]


def test_a_run_killed_before_its_first_checkpoint_begins_with_the_same_weights(runs: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, TrainProgress):
            raise KilledError

    train(on_clothes(runs), runs=tmp_path, name="whole")
    for name in ("killed", "other"):
        with pytest.raises(KilledError):
            train(on_clothes(runs), runs=tmp_path, name=name, on_event=kill)
    resume(tmp_path / "killed")
    whole, killed = (weights_of(tmp_path / name) for name in ("whole", "killed"))
    assert [name for name in whole if not torch.equal(whole[name], killed[name])] == []
    info = told(tmp_path / "other")
    info["start"]["sha256"] = "0" * 64  # as if the source had trained on since
    (tmp_path / "other" / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="other weights by now"):
        resume(tmp_path / "other")
    config = tmp_path / "other" / "config.toml"
    config.write_text(config.read_text().replace("/runs/clothes", "/runs/nowhere"))
    with pytest.raises(RunError, match="cannot be read any more"):
        resume(tmp_path / "other")


REFUSED = {
    "a block that is not there": (["start.freeze=down.9"], ConfigError, "no block 'down.9'"),
    "new weights to freeze": (
        ["start.freeze=down.0", "model.stem=1", "model.attention_resolutions=[]"],
        ConfigError,
        "are new",
    ),
    "nothing that fits": (["model.base_channels=20", "model.attention_resolutions=[]"], RequestError, "Nothing of"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_written(why: str, runs: Path, tmp_path: Path) -> None:
    sets, error, message = REFUSED[why]
    with pytest.raises(error, match=message) as refused:
        train(on_clothes(runs, *sets), runs=tmp_path / "new", name="run")
    assert refused.value.exit_status == 2
    assert refused.value.remedy
    assert not list(tmp_path.iterdir())
