"""A model with class labels: trained, stopped and resumed, sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interrupted_runs import stop_at
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.network import with_classes
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.team import Team, make_accelerator
from ddpm_cli.errors import ConfigError, InterruptedRunError, RequestError
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.measuring import Measuring
from ddpm_cli.training.stopping import Stopping
from ddpm_cli.training.train import resume, train
from ddpm_cli.training.trainer import Trainer

STEPS = 8


def conditional(*sets: str) -> Config:
    return tiny_config(
        "schedule.timesteps=20",
        "model.num_classes=auto",
        "model.norm_groups=4",  # a group of one channel would take an added vector out again
        "objective.label_dropout=0.3",
        "optimizer.lr=1e-2",
        "ema.decay=0.5",
        "train.eval_images=12",
        "train.sample_n=12",
        "train.sampler.steps=2",
        f"train.steps={STEPS}",
        "sample.sampler.steps=3",
        *sets,
    )


def tensors_of(runs: Path) -> dict[str, Tensor]:
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    assert checkpoint.step == STEPS
    return {f"{group}/{k}": v for group in ("model", "ema", "optimizer") for k, v in checkpoint.tensors(group).items()}


def differing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conditional")
    train(conditional(), runs=folder, name="run")
    return folder


@pytest.fixture(scope="module")
def trained(runs: Path) -> TrainedModel:
    return load_trained(runs / "run", torch.device("cpu"))


@pytest.mark.parametrize("step", [3, 5])
def test_a_stopped_run_ends_with_the_same_bits(step: int, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(conditional(), runs=tmp_path, name="run", on_event=stop_at(step))
    resume(tmp_path / "run")
    assert differing(tensors_of(tmp_path), tensors_of(runs)) == []


def test_labels_matter_in_training(runs: Path, tmp_path: Path) -> None:
    """Another share of hidden labels gives another run, though noise, steps and images are the same."""
    train(conditional("objective.label_dropout=0.9"), runs=tmp_path, name="run")
    assert "model/conv_in.weight" in differing(tensors_of(tmp_path), tensors_of(runs))


def test_accumulation_keeps_each_image_s_label(runs: Path, tmp_path: Path) -> None:
    train(conditional("train.micro_batch_size=3"), runs=tmp_path, name="run")
    whole = tensors_of(runs)
    for name, value in tensors_of(tmp_path).items():
        if name.startswith("model/"):
            torch.testing.assert_close(value, whole[name], rtol=1e-2, atol=1e-3)


def trainer(config: Config) -> Trainer:
    dataset = build_dataset(config.data)
    config = with_classes(config, dataset.train.class_names)
    return Trainer(config, dataset, make_accelerator("cpu", "fp32"))


def test_hidden_labels_are_a_function_of_seed_and_step_alone() -> None:
    first, again, other = trainer(conditional()), trainer(conditional()), trainer(conditional("train.seed=1"))
    drawn = []
    for step in range(4):
        first.step = again.step = other.step = step
        torch.manual_seed(step)  # must not matter
        labels = first.draw_labels()
        torch.randn(3)
        assert labels is not None
        assert torch.equal(labels, again.draw_labels())
        assert not torch.equal(labels, other.draw_labels())
        true = first.batches.labels_at(step)
        assert torch.equal(labels[labels != 10], true[labels != 10])
        drawn.append((labels == 10).tolist())
    assert len({tuple(hidden) for hidden in drawn}) > 1


def test_with_all_labels_hidden_the_classes_learn_nothing() -> None:
    subject = trainer(conditional("objective.label_dropout=1"))
    before = subject.model.label_embedding.weight.detach().clone()
    for _ in range(3):  # the last layer starts at zero, so that nothing else learns in the first step
        subject.train_step()
    changed = (subject.model.label_embedding.weight.detach() != before).any(1)
    assert changed.tolist() == [False] * 10 + [True]


def test_the_held_out_loss_takes_the_labels(tmp_path: Path) -> None:
    config = conditional()
    learning = trainer(config)
    for _ in range(4):
        learning.train_step()
    subject = Measuring(learning, build_dataset(config.data), RunDirectory(tmp_path), Team(), Stopping(Team()))
    right = subject.held_out_losses().mean()
    assert right == subject.held_out_losses().mean()
    subject.held_out_labels = (subject.held_out_labels + 1) % 10
    assert right != subject.held_out_losses().mean()


def images(trained: TrainedModel, seeds: list[int], labels: list[int] | None, **changes: object) -> Tensor:
    settings = trained.config.sample.model_copy(update=changes)
    return torch.cat(list(generate_samples(trained, seeds, settings, labels=labels))).int()


def test_an_image_depends_on_its_seed_and_label_alone(trained: TrainedModel) -> None:
    guidance = trained.config.sample.guidance.model_copy(update={"scale": 3.0, "rescale": 0.5})
    together = images(trained, [0, 1, 2, 3, 4], [3, 7, 3, 0, 9], guidance=guidance, batch_size=2)
    alone = images(trained, [3, 2], [0, 3], guidance=guidance, batch_size=1)
    # One grey level for float sums that another batch size orders differently.
    assert (alone[0] - together[3]).abs().max() <= 1
    assert (alone[1] - together[2]).abs().max() <= 1
    other_label = images(trained, [2], [4], guidance=guidance)
    assert (other_label[0] - together[2]).abs().max() > 3


def test_without_labels_the_class_follows_from_the_seed(trained: TrainedModel) -> None:
    assert torch.equal(images(trained, [9, 10, 13], None), images(trained, [9, 10, 13], [9, 0, 3]))


def test_unguided_samples_do_not_depend_on_the_label(trained: TrainedModel) -> None:
    guidance = trained.config.sample.guidance.model_copy(update={"scale": 0.0})
    assert torch.equal(images(trained, [5], [1], guidance=guidance), images(trained, [5], [8], guidance=guidance))


@pytest.mark.parametrize("labels", [[0], [0, 10], [0, -1], [0, 1, 2]])
def test_labels_that_do_not_fit_are_refused(trained: TrainedModel, labels: list[int]) -> None:
    with pytest.raises(RequestError, match="2 labels"):
        images(trained, [0, 1], labels)


def test_the_checkpoint_knows_the_classes(trained: TrainedModel) -> None:
    assert trained.num_classes == len(trained.class_names) == 10
    assert trained.class_names[8] == "Bag"


def test_the_number_of_classes_is_the_data_s() -> None:
    names = ("a", "b")
    assert with_classes(conditional(), names).model.num_classes == 2
    assert with_classes(conditional("model.num_classes=2"), names).model.num_classes == 2
    assert with_classes(conditional("model.num_classes=none"), names).model.num_classes is None
    for wanted, found in (("3", names), ("auto", ()), ("2", ())):
        with pytest.raises(ConfigError, match=r"has (2|no) classes"):
            with_classes(conditional(f"model.num_classes={wanted}"), found)
