"""FID, KID, precision, recall and Inception Score of two folders of PNGs against torch-fidelity's own, with the same weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch_fidelity
from foreign_models import random_weights
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.errors import CheckpointError, RequestError, ShapeError
from ddpm_cli.metrics.features import Features
from ddpm_cli.metrics.frechet import FrechetStatistics, frechet_distance
from ddpm_cli.metrics.inception import InceptionExtractor, load_inception
from ddpm_cli.metrics.inception_score import inception_score
from ddpm_cli.metrics.kid import kernel_distance
from ddpm_cli.metrics.precision_recall import precision_recall

N = 20
SUBSET = 12
CPU = torch.device("cpu")


class Case(NamedTuple):
    """Two sets of images seen by our extractor, and torch-fidelity's figures of the same images in two folders."""

    weights: Path
    extractor: InceptionExtractor
    generated: Features
    real: Features
    theirs: dict[str, float]


def write_pngs(folder: Path, images: NDArray[np.uint8]) -> None:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{i:03}.png")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("fidelity")
    dataset = load_fashion_mnist_10k()
    generated, real = dataset.train.images[:N], dataset.test.images[N : 2 * N]
    state = random_weights(torch.from_numpy(real[:6].copy()))
    save_file(state, folder / "weights.safetensors")
    torch.save(state, folder / "weights.pth")
    write_pngs(folder / "generated", generated)
    write_pngs(folder / "real", real)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folder / "generated"),
        input2=str(folder / "real"),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(folder / "weights.pth"),
        **dict.fromkeys(("fid", "kid", "prc", "isc", "save_cpu_ram"), True),
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
        kid_subset_size=SUBSET,
        batch_size=N,
    )
    extractor = load_inception(folder / "weights.safetensors", CPU)
    ours = [extractor(torch.from_numpy(images.copy())) for images in (generated, real)]
    return Case(folder / "weights.safetensors", extractor, *ours, theirs)


def statistics(features: Features) -> FrechetStatistics:
    result = FrechetStatistics(features.features.shape[1])
    result.add(features.features)
    return result


def test_fid(case: Case) -> None:
    ours = frechet_distance(statistics(case.generated), statistics(case.real))
    assert ours == pytest.approx(case.theirs["frechet_inception_distance"], rel=1e-3)
    assert frechet_distance(statistics(case.real), statistics(case.real)) == pytest.approx(0, abs=1e-3)


def test_kid(case: Case) -> None:
    mean, deviation = kernel_distance(case.real.features, case.generated.features, subset_size=SUBSET)
    assert mean == pytest.approx(case.theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert deviation == pytest.approx(case.theirs["kernel_inception_distance_std"], rel=1e-3)


def test_precision_and_recall(case: Case) -> None:
    precision, recall = precision_recall(case.real.features, case.generated.features)
    assert precision == pytest.approx(case.theirs["precision"], rel=1e-3)
    assert recall == pytest.approx(case.theirs["recall"], rel=1e-3)
    assert precision != recall  # or the two could be swapped


def test_inception_score(case: Case) -> None:
    assert case.generated.logits is not None
    mean, deviation = inception_score(case.generated.logits)
    assert mean == pytest.approx(case.theirs["inception_score_mean"], rel=1e-3)
    assert deviation == pytest.approx(case.theirs["inception_score_std"], rel=1e-3)


def test_grey_images_are_colour_images_of_equal_channels(case: Case) -> None:
    grey = torch.from_numpy(load_fashion_mnist_10k().test.images[N : N + 2].copy())
    assert torch.allclose(case.extractor(grey.repeat(1, 3, 1, 1)).features, case.real.features[:2], atol=1e-4)
    for channels in (2, 4):
        with pytest.raises(ShapeError, match=f"{channels} channels"):
            case.extractor(torch.zeros(1, channels, 28, 28, dtype=torch.uint8))


def test_half_precision_file_without_last_layer(case: Case, tmp_path: Path) -> None:
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in load_file(case.weights).items()}
    state["fc.weight"].zero_()
    save_file(state, tmp_path / "half.safetensors")
    random_state = torch.get_rng_state()
    extractor = load_inception(tmp_path / "half.safetensors", CPU)
    assert torch.equal(torch.get_rng_state(), random_state)
    images = torch.from_numpy(load_fashion_mnist_10k().test.images[N : N + 2].copy())
    features, logits = extractor(images)
    assert logits is None
    assert features.dtype == torch.float32
    assert (features - case.real.features[:2]).norm() < 0.1 * case.real.features[:2].norm()
    assert extractor.sha256 == hashlib.sha256((tmp_path / "half.safetensors").read_bytes()).hexdigest() != case.extractor.sha256


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"other.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"Conv2d_1a_3x3\.conv\.weight is missing") as caught:
        load_inception(path, CPU)
    assert "save_file" in caught.value.remedy
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_inception(path, CPU)
    with pytest.raises(CheckpointError, match="There is no file"):
        load_inception(tmp_path / "absent", CPU)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError) as caught:
        load_inception(None, CPU)
    assert caught.value.remedy == "Install it: pip install 'ddpm-cli[metrics]'"


def test_without_network_a_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("ddpm_cli.metrics.inception.URL", "http://127.0.0.1:9/weights.pth")
    with pytest.raises(RequestError, match="refused") as caught:
        load_inception(None, CPU)
    assert "--extractor-weights FILE" in caught.value.remedy
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_altered_download_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="checksum"):
        load_inception(None, CPU)


def test_download_is_read_where_its_sum_is_right(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real file cannot be had in a test; one of ours takes its place, and its sum."""
    content = case.weights.with_suffix(".pth").read_bytes()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("ddpm_cli.metrics.inception.URL", case.weights.with_suffix(".pth").as_uri())
    monkeypatch.setattr("ddpm_cli.metrics.inception.SHA256", hashlib.sha256(content).hexdigest())
    events: list[object] = []
    for _ in range(2):  # downloaded, then cached
        extractor = load_inception(None, CPU, on_event=events.append)
        assert extractor.sha256 == hashlib.sha256(content).hexdigest()
    assert torch.equal(extractor.network.fc.weight, case.extractor.network.fc.weight)
    assert [type(event).__name__ for event in events] == ["Notice"]
