"""Images, schedules and grids from Python."""

from __future__ import annotations

import numpy as np
import pytest

import ddpm_cli
from ddpm_cli.data.images import Dataset, ImageSet
from ddpm_cli.data.scale import Scale
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.diffusion.schedules import cosine_betas


def test_images_are_those_of_the_data_set_with_their_channels_last() -> None:
    images, labels, class_names = ddpm_cli.load_images("fashion-mnist-10k", n=3, split="test")
    known = load_fashion_mnist_10k().test
    assert np.array_equal(images[..., 0], known.images[:3, 0])
    assert np.array_equal(labels, known.labels[:3])
    assert class_names == known.class_names
    assert len(ddpm_cli.load_images("Fashion_MNIST_10k", set={"data.limit": 5}).images) == 5


def test_a_split_may_be_spelt_otherwise_but_must_exist() -> None:
    held_out = ddpm_cli.load_images("fashion-mnist-10k", n=1, split="TEST").images  # type: ignore[arg-type]
    assert np.array_equal(held_out, ddpm_cli.load_images("fashion-mnist-10k", n=1, split="test").images)
    with pytest.raises(ddpm_cli.DdpmError, match=r"no split 'foo'.*train, test"):
        ddpm_cli.load_images("fashion-mnist-10k", n=1, split="foo")  # type: ignore[arg-type]
    with pytest.raises(ddpm_cli.DdpmError, match="split must be a text, not 3"):
        ddpm_cli.load_images("fashion-mnist-10k", n=1, split=3)  # type: ignore[arg-type]


def test_a_schedule_has_the_options_of_its_kind() -> None:
    assert np.array_equal(ddpm_cli.make_schedule("cosine", 7, s=0.02).betas, cosine_betas(7, s=0.02))
    assert ddpm_cli.make_schedule("LINEAR", 1).timesteps == 1
    assert ddpm_cli.make_schedule("linear", 10, zero_terminal_snr=True).alphas_cumprod[-1] == 0


@pytest.mark.parametrize(
    ("kind", "timesteps", "options", "reason"),
    [("cosin", 10, {}, "cosin"), ("linear", 0, {}, "at least 1"), ("linear", 10, {"s": 0.1}, "schedule.s")],
)
def test_a_wrong_schedule_is_refused(kind: str, timesteps: int, options: dict[str, object], reason: str) -> None:
    with pytest.raises(ddpm_cli.DdpmError, match=reason):
        ddpm_cli.make_schedule(kind, timesteps, **options)


def test_a_grid_has_rows_and_colours() -> None:
    images = np.zeros((5, 4, 6, 3), np.uint8)
    images[4] = (10, 20, 30)
    picture = ddpm_cli.make_grid(images, columns=3)
    assert (picture.mode, picture.size) == ("RGB", (3 * 8 + 2, 2 * 6 + 2))
    assert picture.getpixel((8 + 2, 6 + 2)) == (10, 20, 30)


def test_what_is_no_grid_is_refused() -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    for wrong in (images[0], images[:0], images.astype(np.float32), images.transpose(0, 2, 3, 1).repeat(5, axis=3)):
        with pytest.raises(ddpm_cli.DdpmError, match="uint8"):
            ddpm_cli.make_grid(wrong)
    for columns in (0, 1.5):
        with pytest.raises(ddpm_cli.DdpmError, match="columns"):
            ddpm_cli.make_grid(images, columns=columns)  # type: ignore[arg-type]
    with pytest.raises(ddpm_cli.DdpmError, match="not of list"):
        ddpm_cli.make_grid([[1]])  # type: ignore[arg-type]
    with pytest.raises(ddpm_cli.DdpmError, match="n must"):
        ddpm_cli.load_images("fashion-mnist-10k", n=0)
    with pytest.raises(ddpm_cli.DdpmError, match="n must"):
        ddpm_cli.load_images("fashion-mnist-10k", n=2.5)  # type: ignore[arg-type]


def test_deep_images_come_with_their_scale_and_many_channels_have_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = Scale(0, 4095, "uint16")
    part = ImageSet(np.full((2, 5, 4, 4), 4095, np.uint16), np.zeros(2, np.int64), ())
    dataset = Dataset("five", "made for the test", part, part, "", scale=scale)
    monkeypatch.setattr("ddpm_cli.build.data.build_dataset", lambda *arguments, **named: dataset)
    found = ddpm_cli.load_images()
    assert (found.scale, found.images.dtype, found.images.shape) == (scale, np.dtype(np.uint16), (2, 4, 4, 5))
    drawn = ddpm_cli.make_grid(found.scale.view_array(found.images))
    assert (drawn.mode, drawn.getpixel((3, 3))) == ("RGB", (255, 255, 255))
