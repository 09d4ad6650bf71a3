"""Every record of the registry does what it says, and one from outside is a metric like the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_runs import add_figure, fake_run
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.errors import ConfigError, ExtensionError, RequestError
from ddpm_cli.experiments.compare import compare
from ddpm_cli.experiments.run_list import list_rows
from ddpm_cli.metrics import registry
from ddpm_cli.metrics.feature_statistics import FrechetStatistics
from ddpm_cli.metrics.features import FeatureExtractor, Features, FeatureSource
from ddpm_cli.metrics.registry import Metric, known_metrics
from ddpm_cli.training import metrics as training_metrics
from ddpm_cli.training.metrics import Seen, TrainingMetrics

EXTRACTOR: FeatureExtractor = SimpleNamespace(name="none", sha256="", dimensions=4)  # type: ignore[assignment]
COMPUTED = [metric for metric in known_metrics().values() if metric.compute]


def mean_length(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    return {"toy": float(samples.features(extractor).norm(dim=1).mean())}


TOY = Metric(name="toy", about="Mean length.", extractor="classifier", compute=mean_length, direction="higher", judges=9)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metric]:
    """The registry with one metric more, as an entry point adds it; what is changed in it counts."""
    known = known_metrics() | {"toy": TOY}
    monkeypatch.setattr(registry, "known_metrics", lambda: known)
    return known


@dataclass
class Rows:
    """Images that are known by random features."""

    all_features: Tensor

    @classmethod
    def draw(cls, count: int) -> Rows:
        return cls(torch.randn(count, 4, generator=torch.Generator().manual_seed(count)))

    @property
    def count(self) -> int:
        return len(self.all_features)

    def some(self, n: int) -> Rows:
        return Rows(self.all_features[:n])

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        statistics = FrechetStatistics(4)
        statistics.add(self.all_features)
        return statistics

    def features(self, extractor: FeatureExtractor) -> Tensor:
        return self.all_features

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        return self.all_features


@pytest.mark.parametrize("metric", COMPUTED, ids=lambda metric: metric.name)
def test_a_metric_gives_its_values_from_its_smallest_number_of_samples_on(metric: Metric) -> None:
    reference, least = Rows.draw(50), Rows.draw(metric.smallest_n)
    assert tuple(metric.values_of(reference, least, EXTRACTOR)) == metric.values
    assert metric.facts
    assert metric.facts(reference, least, EXTRACTOR)
    with pytest.raises(RequestError):
        metric.values_of(reference, Rows.draw(metric.smallest_n - 1), EXTRACTOR)


def test_precision_and_recall_see_as_many_real_images_as_samples() -> None:
    metric, samples, real = known_metrics()["precision-recall"], Rows.draw(20), Rows.draw(50)
    assert metric.values_of(real, samples, EXTRACTOR) == metric.values_of(real.some(20), samples, EXTRACTOR)
    assert metric.used_reference(real, 20).count == 20  # type: ignore[type-var]


def test_no_value_is_given_by_two_metrics() -> None:
    names = [name for metric in known_metrics().values() for name in metric.values]
    assert len(set(names)) == len(names)


def test_values_other_than_the_record_names_are_refused() -> None:
    with pytest.raises(ExtensionError, match="gave toy where its record names a, b"):
        replace(TOY, gives=("a", "b")).values_of(Rows.draw(5), Rows.draw(5), EXTRACTOR)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"compute": None}, "needs either compute or measure"), ({"extractor": None}, "needs an extractor")],
)
def test_a_record_that_cannot_be_measured_is_none(fields: dict[str, None], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(TOY, **fields)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ while a model trains


@pytest.fixture
def in_training(toy: dict[str, Metric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingMetrics:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    config = tiny_config("train.evaluate_every=1", "train.evaluate_n=6", "train.evaluate_metrics=['fcd', 'TOY']")
    return TrainingMetrics(config, build_dataset(config.data), make_accelerator("cpu", "fp32"))


def seen(*batches: Tensor) -> Seen:
    share = Seen(FrechetStatistics(64), [])
    for batch in batches:
        share.add(Features(batch, batch[:, :10]))
    return share


def test_each_metric_of_training_has_its_own_value(in_training: TrainingMetrics) -> None:
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    values = in_training.values(seen(features[:4], features[4:]))
    assert list(values) == ["fcd", "toy"]
    assert values["toy"] == pytest.approx(float(features.norm(dim=1).mean()))
    assert values["fcd"] != values["toy"]


def test_what_all_processes_saw_counts_and_one_may_have_seen_nothing(
    in_training: TrainingMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    shares = [seen(features[:4]), seen(features[4:]), seen()]
    monkeypatch.setattr(in_training, "accelerator", SimpleNamespace(num_processes=3))
    monkeypatch.setattr(training_metrics, "gather_object", lambda own: shares)
    values = in_training.values(shares[1])
    assert values["toy"] == pytest.approx(float(features.norm(dim=1).mean()))
    monkeypatch.setattr(in_training, "accelerator", SimpleNamespace(num_processes=1))
    assert values["fcd"] == in_training.values(seen(features[:4], features[4:]))["fcd"]  # merged as batches are, to the bit


def test_the_best_checkpoint_is_chosen_by_what_has_a_better_side(toy: dict[str, Metric]) -> None:
    sets = ("train.evaluate_every=1", "train.evaluate_metrics=['toy']", "checkpoint.best_by=toy")
    assert tiny_config(*sets).checkpoint.best_by == "toy"
    toy["toy"] = replace(TOY, direction=None)
    with pytest.raises(ConfigError, match=r'checkpoint\.best_by: must be "held-out-loss" or "fcd", not "toy"'):
        tiny_config(*sets)


def test_too_few_samples_for_a_metric_of_training_are_refused(toy: dict[str, Metric]) -> None:
    toy["toy"] = replace(TOY, smallest_n=10)
    sets = ("train.evaluate_metrics=['toy']", "train.evaluate_n=9")
    assert tiny_config(*sets).train.evaluate_n == 9  # nothing is measured
    with pytest.raises(ConfigError, match="evaluate_n must be at least 10 for toy, not 9"):
        tiny_config(*sets, "train.evaluate_every=1")


# ----------------------------------------------------------------------------------------------------- runs beside each other


def test_the_higher_value_is_the_better_one_where_the_record_says_so(toy: dict[str, Metric], tmp_path: Path) -> None:
    for arm, lr in enumerate(("0.001", "0.002")):
        for seed, noise in enumerate((0.0, 0.1, -0.1)):
            run = fake_run(tmp_path, f"{arm}-s{seed}", f"optimizer.lr={lr}", f"train.seed={seed}", logged={"toy": 5.0})
            add_figure(run, 20 + 5 * arm + noise, "toy", seed=2000 * seed)
    (measure,) = [measure for measure in compare([tmp_path], runs=tmp_path).measures if measure.metric == "toy"]
    assert "higher by 25 % (better)" in measure.verdicts[1].text
    rows = {row.name: (row.metric, row.value) for row in list_rows(tmp_path)}
    assert rows["1-s1"] == ("toy", pytest.approx(25.1))  # rather than 5, which was logged


def test_a_metric_whose_value_has_another_name_cannot_choose_a_checkpoint() -> None:
    plain = known_metrics()["fcd"]
    assert plain.fits_training
    assert not replace(plain, gives=("aliased",)).fits_training
