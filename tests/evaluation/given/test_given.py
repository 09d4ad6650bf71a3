"""Images that any program made: measured as the run's own are, against data, images, statistics and runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deep_files import png_16
from PIL import Image
from torch import Tensor

import ddpm_cli.evaluation.extractors as extractors
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.data.scale import Scale
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.evaluation.given.images import read_images
from ddpm_cli.evaluation.given.measure import GivenJob
from ddpm_cli.evaluation.given.reference import read_reference
from ddpm_cli.evaluation.given.statistics_file import DIMENSIONS, read_statistics_file
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.metrics.features import Features
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.results.figure import Figure

CPU = torch.device("cpu")
SAMPLES, REAL = 30, 60


class Projection:
    """Looks at images as Inception is asked to: of any size, grey as colour, 2,048 numbers; but in a moment."""

    name, sha256, dimensions = "projection", "5" * 64, DIMENSIONS

    def __init__(self) -> None:
        self.weights = torch.randn(3 * 64, DIMENSIONS, generator=torch.Generator().manual_seed(0))

    def __call__(self, images: Tensor) -> Features:
        seen = torch.nn.functional.adaptive_avg_pool2d(images.float().expand(-1, 3, -1, -1), 8).flatten(1) / 255
        return Features(torch.relu(seen @ self.weights), None)


@pytest.fixture(autouse=True)
def quick_inception(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extractors, "require_inception", lambda weights: None)
    monkeypatch.setattr(extractors, "load_inception", lambda weights, device: Projection())


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    whole = load_fashion_mnist_10k()
    train, test = (ImageSet(part.images[:REAL], part.labels[:REAL], part.class_names) for part in (whole.train, whole.test))
    return replace(whole, train=train, test=test, sha256=images_sha256(train.images))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Samples, uint8 [N, 28, 28, 3], grey in truth."""
    return load_fashion_mnist_10k().test.images[200 : 200 + SAMPLES].transpose(0, 2, 3, 1).repeat(3, axis=3)


def saved(path: Path, pixels: np.ndarray, **more: np.ndarray) -> Path:
    np.savez(path, arr_0=pixels, **more)
    return path


def as_folder(path: Path, pixels: np.ndarray) -> Path:
    path.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(path / f"{number}.png")
    return path


def job(path: Path, dataset: Dataset | None, told: list[Event] | None = None, out: Path | None = None, **settings: Any) -> GivenJob:
    images = read_images(path)
    listen = (told if told is not None else []).append
    return GivenJob(images, dataset, EvaluateSettings(n=images.count, batch_size=8, **settings), out, CPU, listen)


def measured(path: Path, dataset: Dataset | None, *metrics: str, **more: Any) -> list[Figure]:
    subject = job(path, dataset, **more)
    subject.check(metrics)
    return subject.figures(metrics)


# ------------------------------------------------------------------------------------------------------------------ images


def test_an_archive_an_array_and_a_folder_hold_the_same_images(tmp_path: Path, pixels: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", pixels)
    np.savez_compressed(tmp_path / "packed.npz", images=pixels.transpose(0, 3, 1, 2))
    paths = [saved(tmp_path / "a.npz", pixels), tmp_path / "a.npy", as_folder(tmp_path / "a", pixels), tmp_path / "packed.npz"]
    for images in map(read_images, paths):
        assert (images.count, images.shape, images.is_grey) == (SAMPLES, (3, 28, 28), True)
        assert images.sha256 == images_sha256(pixels.transpose(0, 3, 1, 2))
        assert np.array_equal(images[np.array([12, 3])], pixels[[12, 3]].transpose(0, 3, 1, 2))  # 12.png lies after 3.png


def test_twelve_bits_in_sixteen_are_seen_from_black_to_white(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)
    for number, picture in enumerate((ramp, ramp[::-1])):
        (tmp_path / f"{number}.png").write_bytes(png_16(picture, significant=12))
    told: list[Event] = []
    images = read_images(tmp_path, told.append)
    seen = np.rint(ramp / 4095 * 255)
    assert np.array_equal(images[np.arange(2)][:, 0], [seen, seen[::-1]])
    (notice,) = [event.message for event in told if isinstance(event, Notice)]
    assert "white is 4,095" in notice
    assert "8 bits of them are looked at" in notice


def test_colours_are_not_lost_and_grey_is_repeated(tmp_path: Path, pixels: np.ndarray) -> None:
    grey = read_images(saved(tmp_path / "grey.npz", pixels[..., :1]))
    assert grey.with_channels(3).sha256 == images_sha256(pixels.transpose(0, 3, 1, 2))
    assert grey.with_channels(3).with_channels(1).sha256 == grey.sha256
    coloured = pixels.copy()
    coloured[-1, 0, 0] = (1, 2, 3)
    with pytest.raises(DataError, match="are coloured, and those that they are compared with are grey"):
        read_images(saved(tmp_path / "colour.npz", coloured)).with_channels(1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), "are float32 from 0 to 0, not uint8"),
        (np.array([{}], object), "Python objects"),
        (np.zeros((4, 8, 8, 4), np.uint8), "have 4 channels, not 1 or 3"),
        (np.zeros((4, 8), np.uint8), "are no images"),
        (np.zeros((0, 8, 8, 3), np.uint8), "are no images"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_images(saved(tmp_path / "a.npz", array))


def test_a_folder_of_several_sizes_or_with_a_broken_picture_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    folder = as_folder(tmp_path / "a", pixels[:3])
    Image.new("L", (9, 9)).save(folder / "small.png")
    with pytest.raises(DataError, match="several sizes: 9x9, 28x28"):
        read_images(folder)
    (folder / "small.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"1 picture of .* cannot be read: small\.png"):
        read_images(folder)


# ----------------------------------------------------------------------------------------------------------------- figures


def test_the_same_images_have_the_same_figures_wherever_they_lie(tmp_path: Path, dataset: Dataset, pixels: np.ndarray) -> None:
    paths = [saved(tmp_path / "a.npz", pixels), as_folder(tmp_path / "a", pixels[..., 0])]
    archive, folder = (measured(path, dataset, "fcd", "nearest", "fid", "precision-recall") for path in paths)
    assert [figure.value for figure in archive] == [figure.value for figure in folder]
    assert [figure.floor is None for figure in archive] == [False, True, False, False, False]
    assert archive[0].details.items() >= {"samples": "a.npz", "reference_images": REAL}.items()
    assert (archive[0].n, archive[0].split, archive[0].sha256) == (SAMPLES, "train", dataset.sha256)


def test_the_images_themselves_are_no_distance_away(tmp_path: Path, pixels: np.ndarray) -> None:
    path, other = saved(tmp_path / "a.npz", pixels), saved(tmp_path / "b.npz", pixels[::-1])
    (figure,) = measured(path, None, "fid", reference=other)
    assert figure.value == pytest.approx(0, abs=1e-6)
    assert (figure.data, figure.split, figure.details["reference_images"]) == ("b.npz", "all", SAMPLES)
    assert figure.sha256 == images_sha256(pixels[::-1].transpose(0, 3, 1, 2))


def test_figures_of_other_references_are_not_mixed(tmp_path: Path, dataset: Dataset, pixels: np.ndarray) -> None:
    path, out = saved(tmp_path / "a.npz", pixels), tmp_path / "out"
    references = ["train", "test", saved(tmp_path / "b.npz", pixels[:20]), saved(tmp_path / "c.npz", pixels[10:])]
    first = [measured(path, dataset, "fid", out=out, reference=reference)[0] for reference in references]
    assert len({figure.value for figure in first}) == len(references)
    told: list[Event] = []
    again = [measured(path, dataset, "fid", out=out, reference=reference, told=told)[0] for reference in references]
    assert again == first
    assert len([event for event in told if isinstance(event, Notice) and "measured before" in event.message]) == len(references)
    assert len((out / "figures.jsonl").read_text().splitlines()) == len(references)
    assert not (out / "work").exists()
    saved(tmp_path / "b.npz", pixels[5:25])  # another content under the same name
    assert measured(path, dataset, "fid", out=out, reference=references[2])[0].value != first[2].value


@pytest.mark.parametrize(
    ("metric", "data", "words"),
    [
        ("fid", False, "compares the images of"),
        ("fcd", False, "fcd looks through a classifier of a data set"),
        ("nearest", False, "--data"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, pixels: np.ndarray, metric: str, data: bool, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        job(saved(tmp_path / "a.npz", pixels), None).check([metric])
    assert words in f"{refused.value.message} {refused.value.remedy}"


def test_another_size_is_refused_but_by_inception(tmp_path: Path, dataset: Dataset, pixels: np.ndarray) -> None:
    small, told = saved(tmp_path / "a.npz", np.ascontiguousarray(pixels[:, ::2, ::2])), list[Event]()
    with pytest.raises(RequestError, match="are 14x14, and those that they are compared with 28x28"):
        job(small, dataset).check(["fcd"])
    job(small, dataset, told).check(["fid"])
    texts = [event.message for event in told if isinstance(event, Notice)]
    assert any("are 14x14 and the data 28x28" in text for text in texts)
    assert any("are grey and" in text for text in texts)


# -------------------------------------------------------------------------------------------------------------- statistics


def test_statistics_give_what_the_images_give(tmp_path: Path, pixels: np.ndarray) -> None:
    path, real = saved(tmp_path / "a.npz", pixels), saved(tmp_path / "real.npz", pixels[::-1] // 2)
    direct = job(path, None, reference=real)
    direct.check(["fid"])
    (wanted,) = direct.figures(["fid"])
    direct.save_statistics(tmp_path / "statistics.npz")
    (figure,) = measured(path, None, "fid", reference=tmp_path / "statistics.npz")
    assert figure.value == pytest.approx(wanted.value, rel=1e-6)
    assert (figure.split, figure.data, figure.details["reference_images"]) == ("statistics", "statistics.npz", SAMPLES)
    with np.load(tmp_path / "statistics.npz", allow_pickle=False) as found:
        features = Projection()(torch.from_numpy(read_images(real)[np.arange(SAMPLES)])).features.double().numpy()
        np.testing.assert_allclose(found["mu"], features.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(found["sigma"], np.cov(features, rowvar=False), atol=1e-6)
        np.savez(tmp_path / "foreign.npz", mu=found["mu"], sigma=found["sigma"])
    (foreign,) = measured(path, None, "fid", reference=tmp_path / "foreign.npz")
    assert foreign.value == figure.value
    assert "reference_images" not in foreign.details


def test_statistics_beside_images_serve_fid_alone(tmp_path: Path, pixels: np.ndarray) -> None:
    mean, covariance = np.zeros(DIMENSIONS), np.eye(DIMENSIONS)
    both = saved(tmp_path / "both.npz", pixels, mu=mean, sigma=covariance)
    fid, kid = measured(saved(tmp_path / "a.npz", pixels), None, "fid", "kid", reference=both)
    assert (fid.split, kid.split) == ("statistics", "all")
    alone = tmp_path / "alone.npz"
    np.savez(alone, mu=mean, sigma=covariance)
    reference = read_reference(alone)
    for metric, words in (("kid", "kid needs the images themselves"), ("fcd", "fcd looks through another network")):
        with pytest.raises(RequestError, match=words):
            reference.check([metric], (3, 28, 28))


def one_negative(covariance: np.ndarray) -> np.ndarray:
    covariance[3, 3] = -1
    return covariance


@pytest.mark.parametrize(
    ("mean", "change", "words"),
    [
        (np.zeros(64), lambda c: c, r"holds mu of shape \[64\], where features of FID's Inception have 2048"),
        (np.zeros(DIMENSIONS), lambda c: c[:64, :64], r"holds sigma of shape \[64, 64\]"),
        (np.zeros(DIMENSIONS), lambda c: c * np.nan, "holds sigma that are not all finite"),
        (np.zeros(DIMENSIONS), lambda c: c + np.eye(DIMENSIONS, k=1), "not symmetric"),
        (np.zeros(DIMENSIONS), one_negative, "negative variances"),
        (np.zeros(DIMENSIONS), lambda c: c.astype(object), "Python objects as sigma"),
        (np.zeros(DIMENSIONS, np.int64), lambda c: c, "holds mu as int64, not as floats"),
    ],
)
def test_what_is_no_mean_or_covariance_is_refused(
    tmp_path: Path, mean: np.ndarray, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, mu=mean, sigma=change(np.eye(DIMENSIONS)))
    with pytest.raises(RequestError, match=words):
        read_statistics_file(path)


def test_half_of_the_statistics_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(DIMENSIONS))
    with pytest.raises(RequestError, match="has no array sigma"):
        read_reference(tmp_path / "a.npz")


def test_deep_pictures_are_seen_by_the_scale_of_what_they_are_compared_with(tmp_path: Path) -> None:
    dark = np.linspace(400, 800, 64).round().astype(np.uint16).reshape(8, 8)
    (tmp_path / "0.png").write_bytes(png_16(dark))
    (tmp_path / "1.png").write_bytes(png_16(dark[::-1]))
    images = read_images(tmp_path, scale=Scale(0.0, 4095.0, "uint16"))
    assert np.array_equal(images[np.arange(1)][0, 0], np.rint(dark / 4095 * 255))
