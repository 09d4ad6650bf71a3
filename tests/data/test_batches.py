from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.data.batches import Batches, fits_on_device, normalise, place, to_uint8
from ddpm_cli.data.scale import Scale
from ddpm_cli.errors import DataError


def numbered(n: int) -> Tensor:
    """Image i holds i in its left column and 255 - i in the others, so that a flip shows."""
    images = torch.empty(n, 1, 2, 3, dtype=torch.uint8)
    values = torch.arange(n, dtype=torch.uint8)[:, None, None]
    images[:, :, :, :1] = values[..., None]
    images[:, :, :, 1:] = 255 - values[..., None]
    return images


def stream(batches: Batches, steps: int) -> np.ndarray:
    return np.concatenate([batches.indices(step) for step in range(steps)])


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (10, 4), (7, 7), (3, 8), (1, 5), (1, 1), (9, 1)])
def test_every_epoch_visits_each_image_once(n: int, batch_size: int) -> None:
    batches = Batches(numbered(n), batch_size=batch_size, seed=3)
    epochs = 6
    visited = stream(batches, -(-epochs * n // batch_size))[: epochs * n].reshape(epochs, n)
    assert visited.dtype == np.int64
    np.testing.assert_array_equal(np.sort(visited), np.tile(np.arange(n), (epochs, 1)))


@pytest.mark.parametrize(("n", "batch_size"), [(1, 5), (3, 8), (10, 4)])
def test_batches_are_never_partial(n: int, batch_size: int) -> None:
    batches = Batches(numbered(n), batch_size=batch_size, seed=0)
    for step in range(10):
        assert batches.images_at(step).shape == (batch_size, 1, 2, 3)


def test_epochs_and_seeds_differ() -> None:
    first, second = stream(Batches(numbered(50), batch_size=50, seed=0), 2).reshape(2, 50)
    other = Batches(numbered(50), batch_size=50, seed=1).indices(0)
    assert first.tolist() != list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() != other.tolist()


def test_each_image_is_equally_likely_at_each_place() -> None:
    n, epochs = 6, 3000
    visited = stream(Batches(numbered(n), batch_size=n, seed=0), epochs).reshape(epochs, n)
    counts = np.stack([np.bincount(visited[:, place], minlength=n) for place in range(n)])
    # 5 deviations of a binomial; false alarms below 2e-5 over the 36 counts, and the seed is fixed.
    assert np.abs(counts - epochs / n).max() < 5 * np.sqrt(epochs * (1 / n) * (1 - 1 / n))


@pytest.mark.parametrize("horizontal_flip", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(horizontal_flip: bool) -> None:
    def fresh() -> Batches:
        return Batches(numbered(10), batch_size=4, seed=7, horizontal_flip=horizontal_flip)

    in_order = fresh()
    expected = [in_order.images_at(step) for step in range(12)]
    backwards = fresh()
    for step in reversed(range(12)):
        assert torch.equal(backwards.images_at(step), expected[step])
        assert torch.equal(fresh().images_at(step), expected[step])


def test_the_stream_does_not_depend_on_the_batch_size() -> None:
    images = numbered(10)
    streams = [
        torch.cat([batches.images_at(step) for step in range(60 // batches.batch_size)])
        for batches in (Batches(images, batch_size=size, seed=7, horizontal_flip=True) for size in (1, 4, 15))
    ]
    assert torch.equal(streams[0], streams[1])
    assert torch.equal(streams[0], streams[2])


def test_the_stream_is_the_same_on_every_machine() -> None:
    assert stream(Batches(numbered(5), batch_size=5, seed=0), 2).tolist() == [3, 2, 1, 0, 4, 4, 1, 2, 0, 3]


@pytest.mark.parametrize("step", [0, 2, 7])
def test_parts_make_the_whole(step: int) -> None:
    batches = Batches(numbered(10), batch_size=8, seed=1, horizontal_flip=True)
    whole = batches.images_at(step)
    parts = [batches.images_at(step, slice(start, start + 3)) for start in (0, 3, 6)]
    assert [len(part) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat(parts), whole)


def test_images_are_those_of_the_indices() -> None:
    images = numbered(10)
    batches = Batches(images, batch_size=4, seed=5)
    x_0 = batches.images_at(3)
    assert x_0.dtype == torch.float32
    assert torch.equal(x_0, normalise(images[batches.indices(3)]))


def test_flips_mirror_about_half_of_the_images_and_change_from_epoch_to_epoch() -> None:
    n = 200
    plain = Batches(numbered(n), batch_size=n, seed=5)
    flipped = Batches(numbered(n), batch_size=n, seed=5, horizontal_flip=True)
    masks = []
    for step in range(2):
        x_0, y_0 = plain.images_at(step), flipped.images_at(step)
        mirrored = (y_0 == x_0.flip(-1)).flatten(1).all(1)
        assert torch.equal(torch.where(mirrored[:, None, None, None], x_0.flip(-1), x_0), y_0)
        masks.append(dict(zip(plain.indices(step).tolist(), mirrored.tolist(), strict=True)))
    # 5 deviations of a binomial with n = 400: false alarms below 1e-6, and the seed is fixed.
    assert abs(sum(sum(mask.values()) for mask in masks) - n) < 5 * np.sqrt(2 * n / 4)
    assert masks[0] != masks[1]


def test_steps_per_epoch() -> None:
    assert Batches(numbered(10), batch_size=4, seed=0).steps_per_epoch == 2.5


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        Batches(numbered(0), batch_size=4, seed=0)


def test_normalise_and_to_uint8_undo_each_other() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    x = normalise(pixels)
    assert x.dtype == torch.float32
    assert x[0] == -1.0
    assert x[255] == 1.0
    torch.testing.assert_close(x, torch.linspace(-1, 1, 256))
    assert torch.equal(to_uint8(x), pixels)


def test_to_uint8_rounds_and_clamps() -> None:
    x = torch.tensor([-7.0, -1.0, 0.0, 0.6 / 127.5 - 1.0, 1.4 / 127.5 - 1.0, 1.0, 7.0])
    assert to_uint8(x).tolist() == [0, 0, 128, 1, 1, 255, 255]


def test_place_keeps_the_pixels() -> None:
    images = np.frombuffer(bytes(range(24)), np.uint8).reshape(4, 1, 2, 3)  # read-only, as torch.from_numpy refuses it
    tensor = place(images, torch.device("cpu"))
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.numpy(), images)


@pytest.mark.parametrize(("nbytes", "fits"), [(300, True), (301, False)])
def test_a_third_of_the_free_memory_may_be_used_on_cuda(monkeypatch: pytest.MonkeyPatch, nbytes: int, fits: bool) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (900, 10_000))
    assert fits_on_device(nbytes, torch.device("cuda")) is fits
    assert fits_on_device(10**15, torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("images_on", ["cpu", "cuda"])
def test_cuda_batches_equal_those_of_the_cpu_without_waiting(images_on: str) -> None:
    images = numbered(10)
    on_cpu = Batches(images, batch_size=8, seed=1, horizontal_flip=True)
    on_cuda = Batches(images.to(images_on), batch_size=8, seed=1, horizontal_flip=True, device=torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [on_cuda.images_at(step) for step in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, x_0 in enumerate(batches):
        assert x_0.device.type == "cuda"
        assert torch.equal(x_0.cpu(), on_cpu.images_at(step))


def test_images_are_freed_with_their_batches() -> None:
    """At once, not when the garbage collector comes by: a sweep would hold the images of many runs."""
    gc.disable()
    try:
        batches = Batches(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), batch_size=3, seed=0)
        batches.images_at(1)
        gone = weakref.ref(batches)
        del batches
        assert gone() is None
    finally:
        gc.enable()


def test_deep_images_are_batches_of_their_own_scale() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (7, 1, 2, 3)).astype(np.uint16)
    batches = Batches(place(values, torch.device("cpu")), batch_size=4, seed=1, scale=Scale(0, 4095, "uint16"))
    x_0 = batches.images_at(3)
    expected = values[batches.indices(3)].astype(np.float64) * 2 / 4095 - 1
    assert x_0.dtype == torch.float32
    assert float(abs(x_0.numpy() - expected).max()) < 1e-6
