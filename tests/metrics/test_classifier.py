from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from repository import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ddpm_cli.data.images import ImageSet, with_limit
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.errors import CheckpointError, RequestError, ShapeError
from ddpm_cli.metrics import classifier as module
from ddpm_cli.metrics.classifier import load_bundled, load_classifier, save_classifier
from ddpm_cli.metrics.classifier_fit import FittedClassifier, fit_classifier, held_out_accuracy, usual_epochs
from ddpm_cli.metrics.frechet import FrechetStatistics, frechet_distance
from ddpm_cli.results.events import EvaluateProgress

CPU = torch.device("cpu")
SCRIPT = ROOT / "examples" / "train_fashion_mnist_classifier.py"


def spots(n: int, seed: int, shape: tuple[int, int, int] = (3, 9, 14)) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise with a bright upper left corner: red in class 0, of every colour in class 1."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 100, (n, *shape), dtype=np.uint8)
    labels = random.integers(0, 2, n)
    images[:, 0, :4, :4] = 250
    images[labels == 1, :, :4, :4] = 250
    return images, labels


def flat(fitted: FittedClassifier) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in fitted.network.state_dict().values()])


@pytest.mark.parametrize("labelled", [True, False])
def test_fit_learns_labels_or_without_them_how_images_are_mirrored(labelled: bool) -> None:
    images, labels = spots(400, seed=0)
    events: list[object] = []
    fitted = fit_classifier(images, labels if labelled else None, epochs=12, on_event=events.append)
    assert fitted.task == ("classes" if labelled else "flips")
    assert fitted.network.architecture == (3, 9, 14, 2 if labelled else 4)
    held_out, held_out_labels = spots(200, seed=1)
    accuracy = held_out_accuracy(fitted, held_out, held_out_labels)
    assert accuracy is not None
    assert accuracy > 0.9
    assert events[-1] == EvaluateProgress("fit-extractor", 48, 48)
    assert held_out_accuracy(fitted, held_out[:0], held_out_labels[:0]) is None


def test_a_single_class_teaches_nothing_so_that_mirrors_do() -> None:
    images, labels = spots(20, seed=0)
    assert fit_classifier(images, np.full_like(labels, 3), epochs=1).task == "flips"


def test_fit_is_a_function_of_the_seed() -> None:
    images, labels = spots(150, seed=0)
    torch.manual_seed(1)
    first = flat(fit_classifier(images, labels, seed=5, epochs=2))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(flat(fit_classifier(images, labels, seed=5, epochs=2)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(flat(fit_classifier(images, labels, seed=6, epochs=2)), first)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 33), (1, 28, 28), (4, 70, 64)])
def test_any_shape_fits(shape: tuple[int, int, int]) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8), np.arange(3)
    network = fit_classifier(images, labels, epochs=1).network
    features, logits = network(torch.rand(2, *shape))
    assert features.shape == (2, 64)
    assert logits.shape == (2, 3)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ShapeError, match="7x20"):
        fit_classifier(np.zeros((5, 1, 7, 20), np.uint8), None)
    with pytest.raises(RequestError, match="no images"):
        fit_classifier(np.zeros((0, 1, 8, 8), np.uint8), None)


@pytest.fixture
def fitted() -> FittedClassifier:
    images, labels = spots(64, seed=0)
    return fit_classifier(images, labels, epochs=1)


@pytest.fixture
def path(fitted: FittedClassifier, tmp_path: Path) -> Path:
    save_classifier(tmp_path / "c.safetensors", fitted, name="spots-v1", accuracy=0.5, data_sha256="ab")
    return tmp_path / "c.safetensors"


def test_file_round_trip(fitted: FittedClassifier, path: Path, tmp_path: Path) -> None:
    extractor = load_classifier(path, CPU)
    assert (extractor.name, extractor.dimensions) == ("spots-v1", 64)
    described = {"name": "spots-v1", "architecture": fitted.network.architecture, "task": "classes", "accuracy": 0.5}
    assert extractor.description.model_dump(exclude={"version", "weights_sha256"}) == described | {"data_sha256": "ab"}
    images = torch.from_numpy(spots(300, seed=2)[0])
    features, logits = extractor(images)
    assert logits is not None
    with torch.no_grad():
        expected = fitted.network(images / 127.5 - 1)
    assert torch.allclose(features, expected[0], atol=0.01)
    assert torch.allclose(logits, expected[1], atol=0.01)
    assert not features.requires_grad
    save_classifier(tmp_path / "again", fitted, name="spots-v1", accuracy=0.5, data_sha256="ab")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_flipped_bit_of_a_weight_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: its weights do not match their sum") as caught:
        load_classifier(path, CPU)
    assert "fit another one" in caught.value.remedy


def test_images_of_another_shape_are_refused(path: Path) -> None:
    with pytest.raises(ShapeError, match=r"\(3, 9, 14\), not \(3, 14, 9\)"):
        load_classifier(path, CPU)(torch.zeros(1, 3, 14, 9, dtype=torch.uint8))


def changed(metadata: str, **changes: object) -> str:
    return json.dumps({**json.loads(metadata), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: Input should be 1"),
        ({"architecture": [3, 9]}, "describes no classifier"),
        ({"architecture": [3, 9, 14, 10**12]}, "describes no classifier"),
        ({"architecture": [3, 10**12, 10**12, 2]}, "describes no classifier"),
        ({"architecture": [3, 2, 14, 2]}, "pixels be at least 8"),
        ({"architecture": "none"}, "describes no classifier"),
        ({"accuracy": "high"}, "describes no classifier"),
        ({"task": "other"}, "describes no classifier"),
        ({"more": 1}, "describes no classifier"),
        ({"architecture": [3, 9, 14, 3]}, r"head\.weight has the shape"),
        ({"architecture": [3, 28, 28, 2]}, r"blocks\.1\.conv\.weight has the shape"),
    ],
)
def test_altered_descriptions_are_refused(path: Path, changes: dict[str, object], message: str) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()["ddpm_classifier"]
    save_file(load_file(path), path, metadata={"ddpm_classifier": changed(metadata, **changes)})
    with pytest.raises(CheckpointError, match=message):
        load_classifier(path, CPU)


def test_files_that_are_no_classifier_are_refused(path: Path) -> None:
    tensors = load_file(path)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="is no classifier of ddpm"):
        load_classifier(path, CPU)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        load_classifier(path, CPU)


def test_bundled_classifier_knows_fashion_mnist() -> None:
    extractor = load_bundled(CPU)
    test = load_fashion_mnist_10k().test
    logits = extractor(torch.from_numpy(test.images)).logits
    assert logits is not None
    accuracy = (logits.argmax(dim=1).numpy() == test.labels).mean()
    assert accuracy >= 0.9
    assert extractor.description.accuracy == pytest.approx(accuracy, abs=0.02)  # 2,000 of the 10,000: three standard errors


def test_bundled_features_measure_damage() -> None:
    """fcd against the training images rises from test images over noisy ones to noisier ones."""
    extractor, data = load_bundled(CPU), load_fashion_mnist_10k()
    generator = torch.Generator().manual_seed(0)
    test = torch.from_numpy(data.test.images[:1000].copy())
    noise = torch.randn(test.shape, generator=generator)
    sets = [torch.from_numpy(data.train.images[:2000].copy())]
    sets += [(test + sigma * 127.5 * noise).clamp(0, 255).to(torch.uint8) for sigma in (0.0, 0.1, 0.3)]
    reference, *others = [statistics(extractor(images).features) for images in sets]
    distances = [frechet_distance(other, reference) for other in others]
    assert distances[0] * 2 < distances[1]
    assert distances[1] * 2 < distances[2]


def statistics(features: torch.Tensor) -> FrechetStatistics:
    result = FrechetStatistics(64)
    result.add(features)
    return result


def test_bundled_file_is_small_and_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(module.__file__).parent / "bundled" / f"{module.BUNDLED_NAME}.safetensors"
    assert path.stat().st_size <= 300_000
    monkeypatch.setattr(module, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        load_bundled(CPU)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_fashion_mnist_classifier", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    result = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(result)
    return result


def test_script_makes_the_same_file_again(tmp_path: Path) -> None:
    train = script().train
    bundled = with_limit(load_fashion_mnist_10k(), 500)
    test = ImageSet(bundled.test.images[:200], bundled.test.labels[:200], bundled.test.class_names)
    dataset = replace(bundled, test=test)
    accuracies = [train(dataset, tmp_path / name, epochs=2) for name in ("a", "b")]
    assert accuracies[0] == accuracies[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_classifier(tmp_path / "a", CPU).description.accuracy == accuracies[0]


@pytest.mark.parametrize(("images", "epochs"), [(60_000, 8), (4_500, 25), (40, 1_500), (1_000_000, 1)])
def test_large_sets_are_shown_less_often_than_small_ones(images: int, epochs: int) -> None:
    assert usual_epochs(images) == epochs
