"""Metrics of samples: drawn in parts that survive a kill, shared by processes, with spread, floor and notes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from tiny_configs import NETWORK, as_sets
from torch import Tensor, nn

import ddpm_cli.evaluation.extractors as extractors
import ddpm_cli.evaluation.sample_parts as sample_parts
from ddpm_cli.build.network import build_model
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.sample import NoThreshold
from ddpm_cli.core.compute.team import Team
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.errors import CheckpointError, DataError, RequestError, RunLockedError
from ddpm_cli.evaluation.evaluate import evaluate
from ddpm_cli.evaluation.memorisation import of_held_out
from ddpm_cli.evaluation.references import real_images, references_folder
from ddpm_cli.evaluation.sample_parts import SampleSet, draw_parts
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.metrics.frechet import frechet_distance
from ddpm_cli.results.events import EvaluateProgress, Event, NearestPairs, Notice, TimestepLosses
from ddpm_cli.results.figure import Figure
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.trained_model import TrainedModel

N = 22
SETTINGS = EvaluateSettings(n=N, batch_size=4)
Tells = Callable[[Event], None]


def tiny_model(*sets: str, network: nn.Module | None = None) -> TrainedModel:
    """A network that has learned nothing, or the one that is given, sampled in two steps."""
    sampling = ["schedule.timesteps=40", "sample.sampler.kind=ddim", "sample.sampler.steps=2"]
    config = load_config(sets=[*as_sets(NETWORK), *sampling, *sets]).config
    torch.manual_seed(0)
    if network is None:
        network = build_model(config.model, (1, 28, 28)).requires_grad_(False)
        for parameter in network.parameters():  # the output layer starts at zero, which would make all images alike
            parameter.copy_(0.1 * torch.randn_like(parameter))
    network.eval().requires_grad_(False)
    return TrainedModel(network, build_schedule(config.schedule), config, (1, 28, 28), Path("model"), 7, ())


def part_of(images: ImageSet, count: int) -> ImageSet:
    return ImageSet(images.images[:count], images.labels[:count], images.class_names)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    whole = load_fashion_mnist_10k()
    train = part_of(whole.train, 60)
    return replace(whole, train=train, test=part_of(whole.test, 40), sha256=images_sha256(train.images))


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    return tiny_model()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of this test's own, and parts of four samples."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sample_parts, "PART_IMAGES", 4)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all samples that are drawn in a test, in order."""
    seeds: list[int] = []
    original = sample_parts.generate_samples

    def recording(trained: TrainedModel, wanted: Sequence[int], *rest: Any, **more: Any) -> Any:
        seeds.extend(wanted)
        return original(trained, wanted, *rest, **more)

    monkeypatch.setattr(sample_parts, "generate_samples", recording)
    return seeds


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def fcd(trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings = SETTINGS, **more: Any) -> Figure:
    return evaluate(trained, dataset, ["fcd"], settings, **more)[0]


# ------------------------------------------------------------------------------------------------------- parts and processes


def test_after_a_kill_only_the_missing_parts_are_drawn(
    trained: TrainedModel, dataset: Dataset, tmp_path: Path, drawn: list[int]
) -> None:
    whole = fcd(trained, dataset, out=folder(tmp_path / "whole"))
    assert drawn == list(range(N))
    drawn.clear()

    class KilledError(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, EvaluateProgress) and event.metric == "samples" and event.done == 7:  # in the fourth part of two steps
            raise KilledError

    out = folder(tmp_path / "out")
    with pytest.raises(KilledError):
        fcd(trained, dataset, out=out, on_event=kill)
    assert len(list(out.rglob("part-*.safetensors"))) == 6  # three parts, images and features
    drawn.clear()
    other = replace(SETTINGS, sample=load_config(sets=["sample.sampler.kind=ddim", "sample.sampler.steps=1"]).config.sample)
    fcd(trained, dataset, other, out=out)
    assert drawn == list(range(N))  # what one sampler has left is of no use to another
    drawn.clear()
    assert fcd(trained, dataset, out=out) == whole
    assert drawn == list(range(12, N))
    assert not (out / "work").exists()


def test_two_processes_give_what_one_gives(trained: TrainedModel, dataset: Dataset, tmp_path: Path, drawn: list[int]) -> None:
    alone = fcd(trained, dataset, out=folder(tmp_path / "alone"))
    drawn.clear()
    shared = folder(tmp_path / "shared")
    assert evaluate(trained, dataset, ["fcd"], SETTINGS, out=shared, team=Team(rank=1, size=2)) == []
    assert drawn == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21]
    assert not (shared / "figures.jsonl").exists()
    assert fcd(trained, dataset, out=shared, team=Team(rank=0, size=2)) == alone
    assert sorted(drawn) == list(range(N))


def test_two_evaluations_do_not_work_in_one_folder(trained: TrainedModel, dataset: Dataset, tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    with locked(RunDirectory(out)), pytest.raises(RunLockedError, match="Another evaluation is at work"):
        fcd(trained, dataset, out=out)


def test_more_samples_contain_the_fewer(trained: TrainedModel, tmp_path: Path) -> None:
    few, many = (SampleSet(folder(tmp_path / str(n)), range(n), 4) for n in (8, 12))
    draw_parts([few, many], trained, trained.config.sample.model_copy(update={"batch_size": 4}), [], Team())
    assert many.parts == 3
    assert all(torch.equal(few.images(part), many.images(part)) for part in range(2))
    assert not torch.equal(many.images(0), many.images(2))


def test_a_damaged_part_is_named(trained: TrainedModel, dataset: Dataset, tmp_path: Path) -> None:
    samples = SampleSet(folder(tmp_path / "parts"), range(4), 4)
    samples.images_path(0).write_bytes(b"\x00" * 20)
    with pytest.raises(CheckpointError, match=r"part-000000\.safetensors is truncated"):
        samples.images(0)


# ----------------------------------------------------------------------------------------------------------------- figures


def test_figures_carry_all_that_they_depend_on(trained: TrainedModel, dataset: Dataset) -> None:
    figure = fcd(trained, dataset, replace(SETTINGS, seed=3))
    assert (figure.metric, figure.n, figure.split, figure.seed, figure.repeats) == ("fcd", N, "train", 3, 1)
    assert (figure.sha256, figure.spread) == (dataset.sha256, None)
    wanted = {"sampler": "ddim", "steps": 2, "evaluations": 2, "guidance": 1.0, "threshold": "clamp", "reference_images": 60}
    assert wanted.items() <= figure.details.items()
    assert len(str(figure.details["extractor_sha256"])) == 64
    assert figure.details["extractor"] == "fashion-mnist-classifier-v1"
    assert "n = 22 is small (below 2,000): biased upwards" in figure.notes[0]
    json.dumps(figure.details)


def test_repeats_are_sets_of_their_own_seeds(trained: TrainedModel, dataset: Dataset) -> None:
    apart = [fcd(trained, dataset, replace(SETTINGS, seed=5 + N * number)).value for number in range(3)]
    together = fcd(trained, dataset, replace(SETTINGS, seed=5, repeats=3))
    assert together.value == pytest.approx(fmean(apart))
    assert together.spread == pytest.approx(stdev(apart))
    assert (together.repeats, together.seed) == (3, 5)


def test_the_floor_is_the_distance_of_real_images(trained: TrainedModel, dataset: Dataset) -> None:
    figure = fcd(trained, dataset)
    extractor = extractors.load_bundled(torch.device("cpu"))
    train, test = (real_images(dataset, split, 4) for split in ("train", "test"))
    chosen = test.some(N)
    assert len(set(chosen.rows.tolist())) == N
    assert figure.floor == pytest.approx(frechet_distance(train.statistics(extractor), chosen.statistics(extractor)))
    assert figure.floor is not None
    assert figure.floor < figure.value
    assert figure.floor_n == N


def test_some_images_of_a_split_are_a_random_draw_whatever_its_order(dataset: Dataset) -> None:
    """By turns or sorted, ten classes of 100: a draw of 100 finds all, and some more often than others, as samples do."""
    everything = replace(real_images(dataset, "train", 4), rows=np.arange(1000))
    rows = everything.some(100).rows
    for classes in (rows % 10, rows // 100):
        counts = np.bincount(classes, minlength=10)
        assert 3 <= counts.min() < counts.max() <= 20  # P < 1e-2 a side for a random draw, which is always the same one
    assert everything.some(100).rows.tolist() == rows.tolist()
    assert everything.some(2000) is everything


def test_a_floor_of_fewer_images_says_so(trained: TrainedModel, dataset: Dataset) -> None:
    figure = fcd(trained, dataset, replace(SETTINGS, n=44))
    assert figure.floor_n == 40
    assert "The floor is of 40 real images" in figure.notes[1]


def test_the_test_split_can_be_the_reference(trained: TrainedModel, dataset: Dataset) -> None:
    figure = fcd(trained, dataset, replace(SETTINGS, reference="test"))
    assert (figure.split, figure.details["reference_images"], figure.floor_n) == ("test", 40, N)
    assert figure.sha256 == images_sha256(dataset.test.images)
    assert figure.value != fcd(trained, dataset).value


def without_held_out(dataset: Dataset) -> Dataset:
    return replace(dataset, test=part_of(dataset.test, 0))


def test_without_held_out_images_there_is_no_floor(trained: TrainedModel, dataset: Dataset) -> None:
    figure = fcd(trained, without_held_out(dataset))
    assert (figure.floor, figure.floor_n) == (None, None)
    assert "No floor" in figure.notes[1]
    assert figure.value == fcd(trained, dataset).value


def test_what_was_computed_is_not_computed_again(
    trained: TrainedModel, dataset: Dataset, tmp_path: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    original = extractors.load_bundled(torch.device("cpu"))

    class Counting:
        name, sha256, dimensions = original.name, original.sha256, original.dimensions

        def __call__(self, images: Tensor) -> Any:
            looked_at.append(len(images))
            return original(images)

    monkeypatch.setattr(extractors, "load_bundled", lambda device: Counting())
    out = folder(tmp_path / "out")
    first = fcd(trained, dataset, out=out)
    assert sum(looked_at) == N + 60 + N  # samples, reference, floor
    looked_at.clear()
    drawn.clear()
    notices: list[str] = []

    def listen(event: Event) -> None:
        assert isinstance(event, Notice)
        notices.append(event.message)

    assert fcd(trained, dataset, out=out, on_event=listen) == first
    assert (looked_at, drawn) == ([], [])
    assert "fcd: measured before" in notices[1]
    fcd(trained, dataset, replace(SETTINGS, seed=100), out=out)
    assert sum(looked_at) == N  # reference and floor are in the cache
    rows = [json.loads(line) for line in (out / "figures.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 100]
    assert {"step", "ema", "created", "key", "value", "floor", "notes"} <= rows[0].keys()
    assert rows[0]["step"] == 7


def one_bit(content: bytes) -> bytes:
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": one_bit,
    "cut": lambda content: content[:-1],
    "as the version before wrote it": lambda content: content[:-14] if content.startswith(b"\x93NUMPY") else save(load(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["features.npy", "statistics.safetensors"])
def test_references_that_are_damaged_are_computed_anew_and_told(dataset: Dataset, what: str, damage: str) -> None:
    told: list[str] = []
    extractor = extractors.load_bundled(torch.device("cpu"))
    images = real_images(dataset, "test", 64, lambda event: told.append(event.message) if isinstance(event, Notice) else None)

    def kept() -> list[torch.Tensor]:
        return [images.features(extractor).clone(), *images.statistics(extractor).tensors().values()]

    whole = kept()
    (path,) = references_folder().glob(f"*-{what}")
    good = path.read_bytes()
    path.write_bytes(DAMAGES[damage](good))
    assert all(map(torch.equal, kept(), whole))
    (notice,) = told
    assert str(path) in notice
    assert notice.endswith(". It is computed anew.")
    assert path.read_bytes() == good
    assert kept()
    assert told == [notice]


@pytest.mark.parametrize("damage", ["one bit", "cut"])
def test_a_damaged_record_of_held_out_images_is_made_anew_and_told(dataset: Dataset, damage: str) -> None:
    told: list[str] = []
    extractor = extractors.load_bundled(torch.device("cpu"))
    train, test = (real_images(dataset, split, 64) for split in ("train", "test"))

    def listen(event: Event) -> None:
        told.extend([event.message] if isinstance(event, Notice) else [])

    whole = of_held_out(test, train, extractor, listen)
    (path,) = references_folder().glob("*-nearest.safetensors")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    again = of_held_out(test, train, extractor, listen)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert len(told) == 1


def test_a_flipped_bit_of_a_part_is_found(trained: TrainedModel, tmp_path: Path) -> None:
    samples = SampleSet(folder(tmp_path / "parts"), range(4), 4)
    draw_parts([samples], trained, trained.config.sample.model_copy(update={"batch_size": 4}), [], Team())
    good = samples.images_path(0).read_bytes()
    samples.images_path(0).write_bytes(one_bit(good))
    with pytest.raises(CheckpointError, match=r"part-000000\.safetensors does not match its sum"):
        samples.images(0)
    samples.images_path(0).write_bytes(save(load(good)))  # as the version before wrote it
    assert samples.images(0).shape == (4, 1, 28, 28)


def test_another_model_or_sampler_is_another_figure(trained: TrainedModel, dataset: Dataset, tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    ddim = trained.config.sample
    heun = ddim.model_copy(update={"sampler": ddim.sampler.model_copy(update={"steps": 3})})
    other = tiny_model("objective.parameterization=v")
    values = [
        fcd(trained, dataset, out=out),
        fcd(trained, dataset, replace(SETTINGS, sample=heun), out=out),
        fcd(other, dataset, out=out),
    ]
    assert len({figure.value for figure in values}) == 3


# ----------------------------------------------------------------------------------------------------------------- nearest


class Memory(nn.Module):
    """A denoiser that answers with the remembered image that is nearest to x_t."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.from_numpy(images).float() / 127.5 - 1)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        flat = self.images.flatten(1)
        return self.images[torch.cdist(x_t.flatten(1), flat).argmin(dim=1)]


def test_nearest_finds_a_model_that_memorised(dataset: Dataset, tmp_path: Path) -> None:
    pairs: list[NearestPairs] = []

    def listen(event: Event) -> None:
        if isinstance(event, NearestPairs):
            pairs.append(event)

    out = folder(tmp_path / "out")
    model = tiny_model("objective.parameterization=x0", network=Memory(dataset.train.images))
    figure = evaluate(model, dataset, ["nearest"], SETTINGS, out=out, on_event=listen)[0]
    assert figure.value == 1.0
    assert figure.details["flagged_in_features"] == N
    assert figure.details["median_distance_in_pixels"] == 0.0
    assert f"In pixels, {N} of {N} samples (100 %)" in figure.notes[0]
    assert "of new images 2.44 % would" in figure.notes[0]  # one of 40 + 1
    assert np.array_equal(pairs[0].samples, pairs[0].neighbours)
    assert pairs[0].path == out / "nearest.png"


def test_nearest_acquits_a_model_that_draws_new_images(dataset: Dataset) -> None:
    """Its samples are other held-out images; at a rate of 1 in 41, 3 or more of 22 are flagged with a probability below 2 %."""
    new = load_fashion_mnist_10k().test.images[100:200]
    model = tiny_model("objective.parameterization=x0", network=Memory(new))
    figure = evaluate(model, dataset, ["nearest"], SETTINGS)[0]
    assert figure.value <= 2 / N
    assert "new images" in figure.notes[0]


# ----------------------------------------------------------------------------------------------------- loss per timestep


class Halves(nn.Module):
    """Says that half of x_t is noise."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.share * x_t


def test_the_loss_per_timestep_is_that_of_its_range(dataset: Dataset, tmp_path: Path) -> None:
    """E |eps - x_t / 2|^2 = (1 - s/2)^2 + abar x_0^2 / 4 with s = sqrt(1 - abar); 31,360 draws a range, within five errors."""
    model = tiny_model(network=Halves())
    curves: list[TimestepLosses] = []

    def listen(event: Event) -> None:
        if isinstance(event, TimestepLosses):
            curves.append(event)

    figure = evaluate(model, dataset, ["loss-per-timestep"], SETTINGS, out=folder(tmp_path / "out"), on_event=listen)[0]
    assert (figure.n, len(figure.rows)) == (N, 20)
    assert [(row["t_first"], row["t_last"]) for row in figure.rows][:2] == [(0, 1), (2, 3)]
    assert figure.value == pytest.approx(fmean(row["loss"] for row in figure.rows))
    power = float(np.square(dataset.test.images[:N] / 127.5 - 1).mean())
    for row in figure.rows:
        abar = model.schedule.alphas_cumprod[int(row["t_first"]) : int(row["t_last"]) + 1]
        expected = float(np.mean((1 - np.sqrt(1 - abar) / 2) ** 2 + abar * power / 4))
        assert abs(row["loss"] - expected) < 5 * row["standard_error"]
    assert curves[0].rows == list(figure.rows)
    again = evaluate(model, dataset, ["loss-per-timestep"], SETTINGS)[0]
    assert again == figure


# ------------------------------------------------------------------------------------------------------------- extractors


def test_other_data_need_a_classifier_of_their_own(
    trained: TrainedModel, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = replace(dataset, name="own")
    with pytest.raises(RequestError, match=r"no classifier yet that knows own.*--fit-extractor"):
        fcd(trained, own)
    monkeypatch.setattr(extractors, "fit_classifier", partial(extractors.fit_classifier, epochs=2))
    notices: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    figure = fcd(trained, own, replace(SETTINGS, fit_extractor=True), on_event=listen)
    assert str(figure.details["extractor"]).startswith("own-classifier-")
    assert "% of held-out images" in notices[1]
    assert fcd(trained, own) == figure  # without the request: it is kept
    assert len(list((tmp_path / "cache" / "extractors").iterdir())) == 1


# -------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("metric", "settings", "words"),
    [
        ("nearest", SETTINGS, "no held-out images"),
        ("bits-per-dim", SETTINGS, "no held-out images"),
        ("loss-per-timestep", SETTINGS, "no held-out images"),
        ("fcd", replace(SETTINGS, reference="test"), "no held-out images"),
        ("fcd", replace(SETTINGS, n=1), "at least 2 samples"),
        ("fcd", replace(SETTINGS, n=0), "n must be at least 1"),
        ("inception-score", replace(SETTINGS, n=9), "at least 10 samples"),
        ("precision-recall", replace(SETTINGS, n=3), "at least 4 samples"),
        ("fcd", replace(SETTINGS, n=10**13), "bytes of disk"),
        ("fidd", SETTINGS, "no metric 'fidd'"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_nothing_written(
    trained: TrainedModel, dataset: Dataset, tmp_path: Path, metric: str, settings: EvaluateSettings, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        evaluate(trained, without_held_out(dataset), [metric], settings, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_more_samples_than_memory_holds_are_refused(
    trained: TrainedModel, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 10**6, "total": 10**12}))
    with pytest.raises(RequestError, match=r"need 3,276,800 bytes of memory, but 1,000,000 bytes are free.*--n"):
        evaluate(trained, dataset, ["precision-recall"], replace(SETTINGS, n=100), out=tmp_path / "out")
    assert fcd(trained, dataset).n == N  # streams


def test_data_without_held_out_images_are_named(trained: TrainedModel, dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"data\.held_out"):
        evaluate(trained, without_held_out(dataset), ["nearest"], SETTINGS)


def test_the_threshold_that_is_asked_for_reaches_the_bound_and_its_key(dataset: Dataset, tmp_path: Path) -> None:
    trained, out = tiny_model(), folder(tmp_path / "out")
    unclipped = trained.config.sample.model_copy(update={"threshold": NoThreshold()})
    settings = EvaluateSettings(n=4, likelihood_steps=3)
    own, other = (
        evaluate(trained, dataset, ["bits-per-dim"], asked, out=out)[0] for asked in (settings, replace(settings, sample=unclipped))
    )
    assert (own.details["threshold"], other.details["threshold"]) == ("clamp", "none")
    assert own.value != other.value
