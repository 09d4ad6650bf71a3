from __future__ import annotations

import gzip
import hashlib
import importlib.util
import lzma
from importlib import resources
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
from repository import ROOT

from ddpm_cli.data.images import Dataset, with_limit
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist, load_fashion_mnist_10k
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Event, Notice

SYSTEM_FOLDER = fashion_mnist.SYSTEM_FOLDER
NAMES = tuple(fashion_mnist.SHA256)
needs_originals = pytest.mark.skipif(
    not (SYSTEM_FOLDER / f"{NAMES[0]}.gz").is_file(), reason=f"the full Fashion-MNIST is not in {SYSTEM_FOLDER}"
)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def fake_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    shapes = ((20, 28, 28), (20,), (10, 28, 28), (10,))
    return {name: idx_bytes(rng.integers(10, size=shape, dtype=np.uint8)) for name, shape in zip(NAMES, shapes, strict=True)}


FAKE = fake_files()


def write_fake(folder: Path, *, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FAKE.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def unreachable(url: str, path: Path, md5: str) -> None:
    raise URLError("no network in this test")


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, an empty system folder and no network; the small fake set counts as the published one."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "fetch", unreachable)
    monkeypatch.setattr(fashion_mnist, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in FAKE.items()})
    return tmp_path


def assert_fake(dataset: Dataset) -> None:
    assert dataset.name == "fashion-mnist"
    assert dataset.train.images.shape == (20, 1, 28, 28)
    assert dataset.test.images.shape == (10, 1, 28, 28)
    assert dataset.train.images.tobytes() == FAKE[NAMES[0]][16:]
    assert dataset.train.labels.tolist() == list(FAKE[NAMES[1]][8:])
    assert dataset.test.labels.tolist() == list(FAKE[NAMES[3]][8:])
    assert dataset.notices == ()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_layouts_of_a_root(places: Path, packed: bool, below: str) -> None:
    write_fake(places / "root" / below, packed=packed)
    assert_fake(load_fashion_mnist(places / "root"))


def test_root_comes_before_all(places: Path) -> None:
    for name in ("root", "cache", "system"):
        write_fake(places / name)
    dataset = load_fashion_mnist(places / "root")
    assert dataset.source == f"data.root, {places / 'root'}"


def test_cache_comes_before_system(places: Path) -> None:
    write_fake(places / "cache")
    write_fake(places / "system")
    assert load_fashion_mnist().source == f"the cache folder {places / 'cache'}"


def test_system_comes_before_network(places: Path) -> None:
    write_fake(places / "system")
    assert load_fashion_mnist().source == f"the system folder {places / 'system'}"


def test_incomplete_cache_is_passed_over(places: Path) -> None:
    (write_fake(places / "cache") / f"{NAMES[2]}.gz").unlink()
    write_fake(places / "system")
    assert load_fashion_mnist().source == f"the system folder {places / 'system'}"


def test_download_fills_the_cache(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(url: str, path: Path, md5: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(FAKE[url.rsplit("/")[-1].removesuffix(".gz")]))

    events: list[Event] = []
    monkeypatch.setattr(fashion_mnist, "fetch", serve)
    dataset = load_fashion_mnist(on_event=events.append)
    assert_fake(dataset)
    assert "download" in dataset.source
    assert [type(event) for event in events] == [Notice]
    monkeypatch.setattr(fashion_mnist, "fetch", unreachable)
    assert "cache folder" in load_fashion_mnist().source


@pytest.mark.parametrize("error", [URLError("no network in this test"), TimeoutError("timed out"), PermissionError(13, "denied")])
def test_without_network_the_bundled_subset_says_so(places: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(url: str, path: Path, md5: str) -> None:
        raise error

    monkeypatch.setattr(fashion_mnist, "fetch", fail)
    dataset = load_fashion_mnist()
    assert dataset.name == "fashion-mnist-10k"
    assert len(dataset.train) == 10_000
    (notice,) = dataset.notices
    for part in ("10,000", "60,000", str(error), "data.root", str(places / "cache"), "dataset-fashion-mnist", "network"):
        assert part in notice


def test_root_without_the_files_is_an_error(places: Path) -> None:
    write_fake(places / "system")
    (write_fake(places / "root") / f"{NAMES[1]}.gz").unlink()
    with pytest.raises(DataError, match=f"lacks {NAMES[1]}\\.") as caught:
        load_fashion_mnist(places / "root")
    assert str(places / "root") in caught.value.message
    assert "data.root" in caught.value.remedy


def test_root_that_does_not_exist_is_an_error(places: Path) -> None:
    write_fake(places / "system")
    with pytest.raises(DataError, match="is not a folder"):
        load_fashion_mnist(places / "absent")


@pytest.mark.parametrize("place", ["cache", "system", "root"])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_checksum_names_the_file(places: Path, place: str, name: str) -> None:
    path = write_fake(places / place) / f"{name}.gz"
    content = bytearray(FAKE[name])
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="checksum") as caught:
        load_fashion_mnist(places / "root" if place == "root" else None)
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_truncated_file_names_it(places: Path) -> None:
    path = write_fake(places / "cache") / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{path.name} is a damaged gzip file"):
        load_fashion_mnist()


# --------------------------------------------------------------------------------------------------------- the bundle


def test_bundle_is_balanced_in_every_prefix() -> None:
    dataset = load_fashion_mnist_10k()
    for split, per_class in ((dataset.train, 1_000), (dataset.test, 200)):
        assert split.images.shape == (10 * per_class, 1, 28, 28)
        assert np.bincount(split.labels).tolist() == [per_class] * 10
    assert np.bincount(with_limit(dataset, 50).train.labels).tolist() == [5] * 10


def test_bundle_holds_no_image_twice() -> None:
    dataset = load_fashion_mnist_10k()
    train, test = ({image.tobytes() for image in split.images} for split in (dataset.train, dataset.test))
    assert len(train) == 10_000
    assert len(test) == 2_000
    assert not train & test


def test_bundle_comes_with_its_licence() -> None:
    licence = resources.files("ddpm_cli.data").joinpath("bundled", "LICENSE-fashion-mnist.txt").read_text(encoding="utf-8")
    assert "Copyright © 2017 Zalando SE, https://tech.zalando.com" in licence
    assert "The above copyright notice and this permission notice shall be included" in licence


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_damaged_bundle_is_refused(damage: str) -> None:
    packed = bytearray(resources.files("ddpm_cli.data").joinpath("bundled", fashion_mnist.BUNDLED_FILE).read_bytes())
    if damage == "flipped":
        packed[len(packed) // 2] ^= 1
    else:
        del packed[0 if damage == "empty" else len(packed) // 2 :]
    with pytest.raises(DataError, match="damaged") as caught:
        fashion_mnist.unpack(bytes(packed))
    assert "Install" in caught.value.remedy


# ------------------------------------------------------------------------------------------------------ the originals


@pytest.fixture(scope="module")
def originals() -> Dataset:
    return load_fashion_mnist(SYSTEM_FOLDER)


@needs_originals
def test_full_set(originals: Dataset) -> None:
    assert np.bincount(originals.train.labels).tolist() == [6_000] * 10
    assert np.bincount(originals.test.labels).tolist() == [1_000] * 10
    # The mean and deviation of the training pixels that are in common use for normalising this set.
    assert originals.train.images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert originals.train.images.std() / 255 == pytest.approx(0.3530, abs=5e-5)


@needs_originals
def test_bundle_is_part_of_the_originals(originals: Dataset) -> None:
    bundle = load_fashion_mnist_10k()
    for part, whole in ((bundle.train, originals.train), (bundle.test, originals.test)):
        label_of = {image.tobytes(): label for image, label in zip(whole.images, whole.labels, strict=True)}
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def build_script() -> ModuleType:
    path = ROOT / "examples" / "build_fashion_mnist_10k.py"
    spec = importlib.util.spec_from_file_location("build_fashion_mnist_10k", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_originals
def test_script_builds_the_bundle_again(originals: Dataset) -> None:
    script = build_script()
    shipped = resources.files("ddpm_cli.data").joinpath("bundled", fashion_mnist.BUNDLED_FILE).read_bytes()
    pixels = script.build(originals)
    assert pixels == lzma.decompress(shipped)
    assert script.pack(pixels) == shipped
