from __future__ import annotations

import time
import unicodedata

import numpy as np
import pytest
import torch

from ddpm_cli.data.batches import Batches
from ddpm_cli.data.pictures.classes import file_names, find_class
from ddpm_cli.data.sources.fashion_mnist import CLASS_NAMES
from ddpm_cli.errors import DataError, RequestError


def test_labels_go_with_their_images() -> None:
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 2, 2).contiguous()
    labels = np.arange(10, dtype=np.int64) * 7 % 10
    batches = Batches(images, batch_size=4, seed=3, horizontal_flip=True, labels=labels)
    for step in range(8):  # crosses two epochs
        pixels = ((batches.images_at(step)[:, 0, 0, 0] + 1) * 127.5).round().long()
        result = batches.labels_at(step)
        assert result.dtype == torch.int64
        assert result.tolist() == (pixels * 7 % 10).tolist()


def test_images_without_labels() -> None:
    with pytest.raises(DataError, match="no labels"):
        Batches(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), batch_size=1, seed=0).labels_at(0)


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("0", 0), ("bag", 8), ("Bag", 8), ("ankle boot", 9), ("Ankle-Boot", 9), ("t-shirt/top", 0), ("TSHIRTTOP", 0)],
)
def test_a_class_by_number_or_name(text: str, number: int) -> None:
    assert find_class(text, CLASS_NAMES) == number


@pytest.mark.parametrize(
    ("text", "nearest"), [("bga", "Bag"), ("sneakers", "Sneaker"), ("dres", "Dress"), ("boot", "Ankle boot"), ("t-shirt", "Shirt")]
)
def test_an_unknown_class_is_answered_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(RequestError) as error:
        find_class(text, CLASS_NAMES)
    assert text in error.value.message
    assert f'The nearest is "{nearest}"' in error.value.remedy


@pytest.mark.parametrize("text", ["10", "-1", "xyzzy", "", " ", "²", "1e1", "99999999999999999999"])
def test_what_is_near_no_class_is_answered_with_all(text: str) -> None:
    with pytest.raises(RequestError) as error:
        find_class(text, CLASS_NAMES)
    assert "0 T-shirt/top, 1 Trouser" in error.value.remedy


@pytest.mark.parametrize(
    ("text", "number"),
    [("c++", 1), ("C", 0), ("🐱", 3), ("🐶", 2), ("zażółć", 4), ("ZAŻÓŁĆ", 4)],
)
def test_a_name_as_it_is_written_goes_before_its_likes(text: str, number: int) -> None:
    assert find_class(text, ("C", "c++", "🐶", "🐱", unicodedata.normalize("NFD", "zażółć"))) == number


@pytest.mark.parametrize("text", ["c", "!", "🐭"])
def test_a_name_that_may_be_several_is_none(text: str) -> None:
    with pytest.raises(RequestError):
        find_class(text, ("C", "c++", "🐶", "🐱"))


def test_a_name_that_is_a_number_goes_before_the_number() -> None:
    assert find_class("1", ("1", "0")) == 0
    assert find_class("0", ("1", "0")) == 1


DIGITS = tuple(map(str, range(13)))


@pytest.mark.parametrize(
    "text",
    [
        *("1,2", "1-2", "1 2", "1_2", "1.2", "1.0", "1_0", "10.", "-1", "+1", "−1", "#1", "1/2", "01", "1'2", "1e1"),
        *("１", "１２", "①", "²", "٣", "0x1", "1.", ".1", "(1)"),
    ],
)
def test_a_number_is_written_as_one_or_refused(text: str) -> None:
    for names in (DIGITS, CLASS_NAMES):
        with pytest.raises(RequestError, match="There is no class"):
            find_class(text, names)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("class-1", 0),
        ("Class 1", 0),
        ("class12", 1),
        ("class_12", 1),
        ("2024/01 cats", 2),
        ("version 3.5", 3),
        ("5", 4),
        (" 5 ", 4),
    ],
)
def test_numbers_in_names_stay_whole(text: str, number: int) -> None:
    assert find_class(text, ("class 1", "class 12", "2024-01-cats", "version-3.5", "#5")) == number


@pytest.mark.parametrize("text", ["class 1,2", "class 1-2", "class 1 2", "class -1", "version 35", "202401 cats", "class 1.0"])
def test_punctuation_in_a_number_makes_another_number(text: str) -> None:
    with pytest.raises(RequestError, match="There is no class"):
        find_class(text, ("class 1", "class 12", "2024-01-cats", "version-3.5", "class 10"))


def test_files_are_named_after_classes_safely() -> None:
    names = ("T-shirt/top", "../../etc", "Bag", "bag", "", "a\0\x1b[2J", "🐶", "zażółć", "x" * 300, "3.5", "bag-3", "CON")
    found = file_names(names)
    assert found[:5] == ["T-shirt_top", "etc", "Bag", "bag-3", "_"]
    assert len({name.casefold() for name in found}) == len(names)
    assert all(name and len(name.encode()) < 150 and not set(name) & set("/\\.:\0\x1b ") for name in found)
    assert file_names(CLASS_NAMES)[9] == "Ankle_boot"
    assert file_names(DIGITS) == list(DIGITS)


def test_of_many_classes_a_few_are_listed_at_once() -> None:
    names = [f"{chr(97 + number % 26)}{number:06}" for number in range(200_000)]
    started = time.process_time()
    with pytest.raises(RequestError, match='There is no class "b10001x"') as refused:
        find_class("b10001x", names)
    assert time.process_time() - started < 2
    assert 'The nearest is "b1' in str(refused.value)
    assert str(refused.value).endswith("and 199,950 more.")
    assert len(str(refused.value)) < 1000
