"""A server that sends something else than what was published: no file of it stays, and a message says so."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision import datasets
from torchvision.datasets import utils

from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.data.sources.celeba import load_celeba
from ddpm_cli.data.sources.cifar import CIFAR10, CIFAR100, load_cifar
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist
from ddpm_cli.data.sources.torchvision_sets import load_emnist, load_kmnist, load_mnist, load_svhn
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.metrics.inception import load_inception

WRONG = b"<html>something else, of any length</html>"
MD5 = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a network on which every address answers with WRONG."""

    def retrieve(url: str, path: str, *more: Any) -> None:
        Path(path).write_bytes(WRONG)

    drive = ModuleType("gdown")
    drive.download = lambda id, output, **options: retrieve(id, output)  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setattr(utils, "_urlretrieve", retrieve)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **options: url)
    monkeypatch.setitem(sys.modules, "gdown", drive)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "absent")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "load",
    [
        load_mnist,
        load_kmnist,
        lambda: load_emnist("letters"),
        load_svhn,
        lambda: load_celeba(None, PictureSettings()),
        lambda: load_cifar(CIFAR10),
        lambda: load_cifar(CIFAR100),
    ],
    ids=["mnist", "kmnist", "emnist", "svhn", "celeba", "cifar10", "cifar100"],
)
def test_a_wrong_file_is_refused_and_not_kept(load: Callable[[], Any], cache: Path) -> None:
    with pytest.raises(DataError, match=r"download failed .*corrupted"):
        load()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_wrong_file_of_fashion_mnist_is_told_and_not_kept(cache: Path) -> None:
    dataset = load_fashion_mnist()
    assert dataset.name == "fashion-mnist-10k"
    assert "corrupted" in dataset.notices[0]
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_wrong_file_of_inception_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = tmp_path / "weights.pth"
    served.write_bytes(WRONG)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("ddpm_cli.metrics.inception.URL", served.as_uri())
    with pytest.raises(RequestError, match="invalid hash value"):
        load_inception(None, torch.device("cpu"))
    assert [path for path in (tmp_path / "hub").rglob("*") if path.is_file()] == []


def test_each_file_that_torchvision_downloads_for_us_has_a_published_sum() -> None:
    sums = [md5 for cls in (datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST) for _, md5 in cls.resources]
    sums += [datasets.EMNIST.md5, *(datasets.SVHN.split_list[split][2] for split in ("train", "test"))]
    sums += [md5 for _, md5, _ in datasets.CelebA.file_list]
    assert len(sums) == 21
    assert all(MD5.fullmatch(md5) for md5 in sums)
