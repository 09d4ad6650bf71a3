"""Every format of arrays, on files that its own library or a writer in this file made."""

from __future__ import annotations

import gzip
import pickle  # noqa: TID251 # what is refused
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.scale import USUAL
from ddpm_cli.data.sources.arrays import load_arrays, read_arrays
from ddpm_cli.data.sources.formats.reader import ArrayOptions
from ddpm_cli.data.sources.formats.registry import READERS
from ddpm_cli.errors import DataError, RequestError

RNG = np.random.default_rng(0)
WITHOUT = ArrayOptions(labels_key="ignore")


def pictures(count: int, side: int = 8, channels: int = 3) -> np.ndarray:
    """Smooth pictures that are unlike their mirror images and each other in each channel, uint8 [N, H, W, C]."""
    y, x = np.mgrid[0:side, 0:side] / side
    found = []
    for number in range(count):
        light = 0.5 + (number * 7 % count) / count / 2
        planes = [(y + 0.3 * x**2) * (120 + 20 * c) * light + 30 * c for c in range(channels)]
        found.append(np.stack(planes, axis=-1))
    return np.array(found).round().clip(0, 255).astype(np.uint8)


COLOUR = pictures(12)
GREY = pictures(12, 28, 1)[..., 0]
LABELS = np.arange(12) % 3


def by_pixels(dataset: Dataset) -> dict[bytes, int]:
    """The label of each image."""
    parts = (dataset.train, dataset.test)
    return {image.tobytes(): int(label) for part in parts for image, label in zip(part.images, part.labels, strict=True)}


def expected(images: np.ndarray, labels: np.ndarray) -> dict[bytes, int]:
    """The same of pictures [N, H, W, C] or [N, H, W]."""
    planes = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return {np.ascontiguousarray(image).tobytes(): int(label) for image, label in zip(planes, labels, strict=True)}


def recognised(dataset: Dataset) -> str:
    (notice,) = dataset.notices
    assert " is recognised as " in notice
    return notice


# ------------------------------------------------------------------------------------------------------------- MedMNIST


def medmnist(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    both = {"images": images, "labels": labels}
    parts = {"train": slice(0, 6), "val": slice(6, 9), "test": slice(9, 12)}
    np.savez(path, **{f"{name}_{what}": array[rows] for name, rows in parts.items() for what, array in both.items()})
    return path


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_medmnist(tmp_path: Path, images: np.ndarray) -> None:
    dataset = load_arrays(medmnist(tmp_path / "bloodmnist.npz", images, LABELS[:, None].astype(np.uint8)))
    assert by_pixels(dataset) == expected(images[:9], LABELS[:9])
    assert (len(dataset.train), len(dataset.test)) == (6, 3)
    assert "MedMNIST: 6 images to train on, 3 of val held out, 3 images of test not used" in recognised(dataset)


def test_volumes_of_medmnist_are_taken_as_slices_on_request(tmp_path: Path) -> None:
    volumes = pictures(60, 28, 1)[..., 0].reshape(12, 5, 28, 28)
    path = medmnist(tmp_path / "organmnist3d.npz", volumes, LABELS[:, None])
    with pytest.raises(DataError, match=r"6 volumes \[5, 28, 28\]") as caught:
        load_arrays(path)
    assert "data.slices=true" in caught.value.remedy
    dataset = load_arrays(path, ArrayOptions(slices=True))
    assert by_pixels(dataset) == expected(volumes[:9].reshape(-1, 28, 28), LABELS[:9].repeat(5))
    assert len(dataset.train) == 30
    with pytest.raises(DataError, match=r"data.slices is for volumes"):
        load_arrays(medmnist(tmp_path / "flat.npz", GREY, LABELS[:, None]), ArrayOptions(slices=True))


def test_several_classes_of_one_image_are_refused_and_can_be_left_out(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "chestmnist.npz", GREY, RNG.integers(0, 2, (12, 14), np.uint8))
    with pytest.raises(DataError, match=r"train_labels are uint8 \[6, 14\], 14 for each image") as caught:
        load_arrays(path)
    assert "data.labels_key=ignore" in caught.value.remedy
    dataset = load_arrays(path, WITHOUT)
    assert dataset.train.class_names == ()
    assert len(dataset.train) == 6


# ------------------------------------------------------------------------------------------------------------ QuickDraw


def test_quickdraw(tmp_path: Path) -> None:
    np.save(tmp_path / "cat.npy", GREY.reshape(12, 784))
    dataset = load_arrays(tmp_path / "cat.npy")
    assert by_pixels(dataset) == expected(GREY, np.zeros(12))
    assert "28x28" in recognised(dataset)
    folder = tmp_path / "drawings"
    folder.mkdir()
    np.save(folder / "full_numpy_bitmap_the eye.npy", GREY[:5].reshape(5, 784))
    np.save(folder / "cat.npy", GREY[5:].reshape(7, 784))
    dataset = load_arrays(folder)
    assert dataset.train.class_names == ("cat", "the eye")
    assert by_pixels(dataset) == expected(GREY, np.array([1] * 5 + [0] * 7))
    assert "2 .npy files" in recognised(dataset)
    np.save(folder / "dog.npy", GREY[:, :7].reshape(12, 196))
    with pytest.raises(DataError, match=r"cat.npy is uint8 \[7, 784\] and dog.npy uint8 \[12, 196\]"):
        load_arrays(folder)


# ---------------------------------------------------------------------------------------------------- Kuzushiji, samples


def test_kuzushiji(tmp_path: Path) -> None:
    for split, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
        np.savez_compressed(tmp_path / f"k49-{split}-imgs.npz", GREY[rows])
        np.savez_compressed(tmp_path / f"k49-{split}-labels.npz", LABELS[rows].astype(np.uint8))
    for name in ("k49-train-imgs.npz", "k49-test-labels.npz"):
        dataset = load_arrays(tmp_path / name)
        assert by_pixels(dataset) == expected(GREY, LABELS)
        assert (len(dataset.train), len(dataset.test)) == (8, 4)
        assert "Kuzushiji" in recognised(dataset)
    (tmp_path / "k49-test-labels.npz").unlink()
    with pytest.raises(DataError, match="has labels for one of"):
        load_arrays(tmp_path / "k49-train-imgs.npz")
    for path in tmp_path.glob("*-imgs.npz"):
        path.unlink()
    with pytest.raises(DataError, match=r"k49-train-imgs.npz is not beside it"):
        load_arrays(tmp_path / "k49-train-labels.npz")


@pytest.mark.parametrize("arrays", [(COLOUR,), (COLOUR, LABELS)], ids=["images", "images and labels"])
def test_samples_of_guided_diffusion(tmp_path: Path, arrays: tuple[np.ndarray, ...]) -> None:
    np.savez(tmp_path / "samples_12x8x8x3.npz", *arrays)
    dataset = load_arrays(tmp_path / "samples_12x8x8x3.npz")
    assert by_pixels(dataset) == expected(COLOUR, LABELS if len(arrays) == 2 else np.zeros(12))
    assert "arr_0" in recognised(dataset)


# ------------------------------------------------------------------------------------------------------------- ImageNet


def planar(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def test_imagenet(tmp_path: Path) -> None:
    images, labels = pictures(12, 32), np.array([1, 2, 1000] * 4)
    for number, rows in ((1, slice(0, 4)), (2, slice(4, 6)), (10, slice(6, 9))):
        np.savez(tmp_path / f"train_data_batch_{number}.npz", data=planar(images[rows]), labels=labels[rows], mean=np.zeros(3072))
    np.savez(tmp_path / "val_data.npz", data=planar(images[9:]), labels=labels[9:])
    dataset = load_arrays(tmp_path)
    assert by_pixels(dataset) == expected(images, labels - 1)
    assert dataset.train.labels.tolist() == (labels[:9] - 1).tolist()
    assert "3 of 3 batches, plane after plane, labels from 1 counted from 0, val_data.npz held out" in recognised(dataset)
    assert len(load_arrays(tmp_path / "train_data_batch_2.npz").train) == 2
    np.savez(tmp_path / "train_data_batch_3.npz", data=planar(pictures(2, 64)), labels=labels[:2])
    with pytest.raises(DataError, match=r"batch_1.npz is uint8 \[4, 3072\] and train_data_batch_3.npz uint8 \[2, 12288\]"):
        load_arrays(tmp_path)
    np.savez(tmp_path / "train_data_batch_4.npz", data=planar(images), labels=labels - 1)
    with pytest.raises(DataError, match="labels go from 0 to 999"):
        load_arrays(tmp_path / "train_data_batch_4.npz")
    np.savez(tmp_path / "train_data_batch_5.npz", data=images.reshape(12, -1), labels=labels)
    with pytest.raises(DataError, match=r"plane after plane, but the pictures are rougher so"):
        load_arrays(tmp_path / "train_data_batch_5.npz")


@pytest.mark.parametrize("name", ["Imagenet32_val.npz", "imagenet-64.npz", "val_data.npz", "train_data_batch_10.npz"])
def test_imagenet_goes_by_the_published_names(tmp_path: Path, name: str) -> None:
    images = pictures(4, 64 if "64" in name else 32)
    np.savez(tmp_path / name, data=planar(images), labels=np.arange(1, 5))
    assert by_pixels(load_arrays(tmp_path / name)) == expected(images, np.arange(4))


@pytest.mark.parametrize("name", ["mine.npz", "imagenet.npz", "imagenet320.npz", "mine_train_data_batch_1.npz"])
def test_arrays_of_ones_own_that_look_like_imagenet_are_not(tmp_path: Path, name: str) -> None:
    images = pictures(12, 32)
    np.savez(tmp_path / name, data=images.reshape(12, -1), labels=LABELS)
    with pytest.raises(DataError, match="is of no format that is known: it holds data") as caught:
        load_arrays(tmp_path / name)
    assert "--set data.images_key=data --set data.labels_key=labels" in caught.value.remedy
    assert by_pixels(load_arrays(tmp_path / name, ArrayOptions(images_key="data", labels_key="labels"))) == expected(images, LABELS)


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "train_data_batch_1").write_bytes(pickle.dumps(Harmful()))
    for path in (tmp_path, tmp_path / "train_data_batch_1"):
        with pytest.raises(DataError, match=r"is a Python pickle, which may run any program") as caught:
            load_arrays(path)
        assert ".npz" in caught.value.remedy
    assert not (tmp_path / "harm").exists()


# ------------------------------------------------------------------------------------------------------------------ HDF5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no such file: it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (gzip.compress(b"x"), "packed by gzip"),
        (b"CDF\x01" + bytes(2000), "NetCDF of version 3"),
        (b"a table\nof words\x1b[31m" + bytes(2000), r'it begins with "a table.of words'),
    ],
    ids=["empty", "pointer", "page", "packed", "NetCDF", "text"],
)
def test_a_file_that_is_named_as_hdf5_and_is_none_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load_arrays(tmp_path / "a.h5")
    assert "\x1b" not in caught.value.message
    assert "Fetch it anew" in caught.value.remedy


def test_hdf5_behind_bytes_of_somebody_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w", userblock_size=2048) as file:
        file["images"], file["labels"] = COLOUR, LABELS
    assert by_pixels(load_arrays(tmp_path / "a.hdf5")) == expected(COLOUR, LABELS)


# ---------------------------------------------------------------------------------------------------------------- MATLAB


def save_73(path: Path, **arrays: np.ndarray) -> None:
    """A file as MATLAB 7.3 writes it: after a header of 512 bytes HDF5, the axes in reverse."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=np.ascontiguousarray(array.T)).attrs["MATLAB_class"] = np.bytes_(str(array.dtype))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def save_5(path: Path, **arrays: np.ndarray) -> None:
    savemat(path, arrays, do_compression=True)


@pytest.mark.parametrize("save", [save_5, save_73, lambda path, **arrays: savemat(path, arrays)], ids=["5", "7.3", "plain"])
def test_svhn(tmp_path: Path, save) -> None:
    images, labels = pictures(12, 32), np.array([1, 2, 10] * 4)
    save(tmp_path / "train_32x32.mat", X=np.moveaxis(images[:9], 0, -1), y=labels[:9, None])
    save(tmp_path / "test_32x32.mat", X=np.moveaxis(images[9:], 0, -1), y=labels[9:, None])
    dataset = load_arrays(tmp_path / "train_32x32.mat")
    assert by_pixels(dataset) == expected(images, labels % 10)
    assert (len(dataset.train), len(dataset.test)) == (9, 3)
    assert dataset.train.class_names == tuple("0123456789")
    assert "10 stands for the digit 0, test_32x32.mat held out" in recognised(dataset)
    save(tmp_path / "other.mat", X=np.moveaxis(images, 0, -1), y=labels[:, None] * 2)
    with pytest.raises(DataError, match="y go from 2 to 20, and those of SVHN from 1 to 10"):
        load_arrays(tmp_path / "other.mat")


@pytest.mark.parametrize("save", [save_5, save_73], ids=["5", "7.3"])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_notmnist(tmp_path: Path, save, kind: type) -> None:
    """MATLAB's numbers are doubles unless they are said to be others."""
    save(tmp_path / "notMNIST_small.mat", images=np.moveaxis(GREY, 0, -1).astype(kind), labels=LABELS[:, None].astype(float))
    dataset = load_arrays(tmp_path / "notMNIST_small.mat")
    assert by_pixels(dataset) == expected(GREY, LABELS)
    assert dataset.train.class_names == tuple("ABCDEFGHIJ")
    assert "notMNIST" in recognised(dataset)


def test_images_of_matlab_may_be_counted_by_the_first_axis_or_the_last(tmp_path: Path) -> None:
    for name, array in (("first.mat", GREY), ("last.mat", np.moveaxis(GREY, 0, -1))):
        save_5(tmp_path / name, images=array)
        assert by_pixels(load_arrays(tmp_path / name)) == expected(GREY, np.zeros(12))


# ---------------------------------------------------------------------------------------------------------------- STL-10


def save_stl10(path: Path, images: np.ndarray) -> None:
    """Pixel by pixel, as the set's page tells: each channel in column-major order, red first."""
    with path.open("wb") as file:
        for image in images:
            for channel in range(3):
                file.write(bytes(int(image[row, column, channel]) for column in range(96) for row in range(96)))


def test_stl10(tmp_path: Path) -> None:
    images, labels = pictures(4, 96), np.array([1, 10, 3, 3], np.uint8)
    save_stl10(tmp_path / "train_X.bin", images[:3])
    save_stl10(tmp_path / "test_X.bin", images[3:])
    labels[:3].tofile(tmp_path / "train_y.bin")
    labels[3:].tofile(tmp_path / "test_y.bin")
    (tmp_path / "class_names.txt").write_text("\n".join(f"class {number}" for number in range(10)))
    for path in (tmp_path, tmp_path / "train_X.bin"):
        dataset = load_arrays(path)
        assert by_pixels(dataset) == expected(images, labels - 1)
        assert dataset.train.class_names[9] == "class 9"
        assert "STL-10: 3 images, columns made rows, labels from 1 counted from 0, 1 of test_X.bin held out" in recognised(dataset)
    save_stl10(tmp_path / "unlabeled_X.bin", images)
    assert load_arrays(tmp_path / "unlabeled_X.bin").train.class_names == ()
    np.array([0, 1, 2], np.uint8).tofile(tmp_path / "train_y.bin")
    with pytest.raises(DataError, match=r"train_y.bin has labels from 0 to 2, and STL-10's go from 1 to 10"):
        load_arrays(tmp_path)
    (tmp_path / "train_X.bin").write_bytes((tmp_path / "train_X.bin").read_bytes()[:-1])
    with pytest.raises(DataError, match="82,943 bytes are no whole number of images of 27,648"):
        load_arrays(tmp_path)


# ------------------------------------------------------------------------------------------------------------------ HDF5


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip", "chunks": True}], ids=["plain", "packed"])
def test_galaxy10(tmp_path: Path, packing: dict[str, object]) -> None:
    with h5py.File(tmp_path / "Galaxy10.h5", "w") as file:
        file.create_dataset("images", data=COLOUR, **packing)
        file["ans"] = LABELS.astype(np.uint8)
        file["ra"] = np.zeros(12)
    dataset = load_arrays(tmp_path / "Galaxy10.h5", held_out=0.0)
    assert by_pixels(dataset) == expected(COLOUR, LABELS)
    assert "Galaxy10" in recognised(dataset)
    base = dataset.train.images
    while not isinstance(base, np.memmap) and base.base is not None:
        base = base.base
    assert isinstance(base, np.memmap) == (not packing)


def test_keys_of_others_are_listed_and_can_be_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["train/pictures"], file["train/kinds"] = COLOUR, LABELS[:, None].astype(float)
        file["factors"] = np.zeros((12, 6))
    with pytest.raises(DataError, match=r"train/pictures uint8 \[12, 8, 8, 3\]") as caught:
        load_arrays(tmp_path / "mine.h5")
    assert "data.images_key=train/pictures --set data.labels_key=train/kinds" in caught.value.remedy
    dataset = load_arrays(tmp_path / "mine.h5", ArrayOptions(images_key="train/pictures", labels_key="train/kinds"))
    assert by_pixels(dataset) == expected(COLOUR, LABELS)
    assert "train/pictures with train/kinds as classes" in recognised(dataset)
    assert load_arrays(tmp_path / "mine.h5", ArrayOptions(images_key="train/pictures")).train.class_names == ()
    for options in (ArrayOptions(images_key="pictures"), ArrayOptions(images_key="train/pictures", labels_key="y")):
        with pytest.raises(DataError, match=r"holds no (pictures|y), only factors float64 \[12, 6\]"):
            load_arrays(tmp_path / "mine.h5", options)
    with pytest.raises(DataError, match="factors are float64"):
        load_arrays(tmp_path / "mine.h5", ArrayOptions(images_key="train/pictures", labels_key="factors"))


def test_hdf5_opens_no_other_file_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(256)) * 3)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = COLOUR
    sources = h5py.VirtualLayout((12, 8, 8, 3), "u1")
    sources[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "images", (12, 8, 8, 3))
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.create_dataset("external", (3, 16, 16), "u1", external=[(str(tmp_path / "secret"), 0, 768)])
        file.create_virtual_dataset("virtual", sources)
        file["soft"], file["link"] = h5py.SoftLink("/virtual"), h5py.ExternalLink("other.h5", "/images")
        file["group/round/about"] = np.zeros(3)
        file["group/loop"] = file["group"]
        file["text"], file["reference"] = "text", file["group"].ref
        file.create_dataset("huge", (10**6, 1000, 1000), "u1", chunks=True)
        file.create_dataset("empty", data=h5py.Empty("u1"))
    told = {"external": "other files", "virtual": "other files", "soft": "is a link to /virtual", "link": "is a link to other.h5"}
    told |= {"text": "no numbers", "reference": "no numbers", "huge": "more than a file of", "empty": "no numbers"}
    for key, words in told.items():
        with pytest.raises(DataError, match=words):
            load_arrays(tmp_path / "bad.h5", ArrayOptions(images_key=key))


# -------------------------------------------------------------------------------------------------------------- dSprites


def test_dsprites(tmp_path: Path) -> None:
    latents = np.stack([np.zeros(12), LABELS, *np.zeros((4, 12))], axis=1).astype(np.int64)
    metadata = np.array({"latents_names": ("color", "shape")}, object)
    masks = (GREY > 100).astype(np.uint8)
    np.savez(tmp_path / "dsprites.npz", imgs=masks, latents_classes=latents, latents_values=latents * 0.5, metadata=metadata)
    found = read_arrays(tmp_path / "dsprites.npz")
    assert found.said_range == (0, 1)
    assert found.class_names == ("square", "ellipse", "heart")
    np.testing.assert_array_equal(found.train.images, masks)
    np.testing.assert_array_equal(found.train.labels, LABELS)
    assert "dSprites: values 0 and 1, the shape is the class" in found.notices[0]
    assert read_arrays(tmp_path / "dsprites.npz", WITHOUT).train.labels is None
    with pytest.raises(DataError, match="metadata holds Python objects, which would have to be unpickled"):
        read_arrays(tmp_path / "dsprites.npz", ArrayOptions(images_key="metadata"))


# ------------------------------------------------------------------------------------------------------- tables of pixels


def table(path: Path, columns: list[np.ndarray], header: list[str] | None, delimiter: str = ",") -> Path:
    rows = [delimiter.join(map(str, row)) for row in np.concatenate(columns, axis=1).tolist()]
    text = "\n".join([*([delimiter.join(header)] if header else []), *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


FLAT, COLUMN = GREY.reshape(12, 784), LABELS[:, None]
PIXELS = [f"pixel{number}" for number in range(784)]
HEADER = [*"abc", "label", *map(str, range(13))]


@pytest.mark.parametrize("name", ["digits.csv", "digits.csv.gz"])
@pytest.mark.parametrize(
    ("columns", "header"),
    [
        ([COLUMN, FLAT], ["label", *PIXELS]),
        ([FLAT, COLUMN], [*PIXELS, "Class"]),
        ([COLUMN, FLAT], None),
        ([COLUMN * 0 + 7, COLUMN, FLAT], ["id", "label", *PIXELS]),
        ([COLUMN, FLAT], ['"label"', *(f'"{number // 28 + 1}x{number % 28 + 1}"' for number in range(784))]),
    ],
    ids=["label first", "label last", "no header", "another column", "quoted"],
)
def test_tables_of_pixels(tmp_path: Path, name: str, columns: list[np.ndarray], header: list[str] | None) -> None:
    dataset = load_arrays(table(tmp_path / name, columns, header))
    assert by_pixels(dataset) == expected(GREY, LABELS)
    assert dataset.name == "digits"
    assert "a table of pixels: rows of 784 pixels, 28x28 each, labels in the column" in recognised(dataset)


@pytest.mark.parametrize("first", [True, False])
def test_large_labels_leave_pixels_of_8_bits(tmp_path: Path, first: bool) -> None:
    large = np.arange(300)[:, None]
    flat = RNG.integers(0, 256, (300, 16), np.uint8)
    path = table(tmp_path / "many.csv", [large, flat] if first else [flat[:, :3], large, flat[:, 3:]], None if first else HEADER)
    dataset = load_arrays(path, held_out=0)
    assert (dataset.train.images.dtype, dataset.scale) == (np.uint8, USUAL)
    assert by_pixels(dataset) == expected(flat.reshape(300, 4, 4), large[:, 0])


def test_tables_without_labels_in_colour_and_not_square(tmp_path: Path) -> None:
    assert by_pixels(load_arrays(table(tmp_path / "a.csv", [FLAT], None))) == expected(GREY, np.zeros(12))
    assert load_arrays(table(tmp_path / "b.csv", [COLUMN, FLAT], ["label", *PIXELS]), WITHOUT).train.class_names == ()
    for rows, words in (
        (COLOUR.reshape(12, -1), "pixel after pixel"),
        (planar(COLOUR), "plane after plane"),
    ):
        dataset = load_arrays(table(tmp_path / "c.csv", [rows, COLUMN], [*map(str, range(192)), "label"]))
        assert by_pixels(dataset) == expected(COLOUR, LABELS)
        assert f"{words}, which is smoother (" in recognised(dataset)
    oblong = GREY[:, :20]
    path = table(tmp_path / "e.csv", [COLUMN, oblong.reshape(12, -1)], None, ";")
    with pytest.raises(DataError, match="561 columns beside the labels make no image of a square"):
        load_arrays(path)
    assert by_pixels(load_arrays(path, ArrayOptions(flat_size=(20, 28)))) == expected(oblong, LABELS)
    dataset = load_arrays(table(tmp_path / "f.csv", [FLAT, COLUMN], [*PIXELS, "kind"]), ArrayOptions(labels_key="kind"))
    assert by_pixels(dataset) == expected(GREY, LABELS)


def test_a_table_of_test_images_beside_it_is_held_out(tmp_path: Path) -> None:
    for split, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
        table(tmp_path / f"fashion-mnist_{split}.csv", [COLUMN[rows], FLAT[rows]], ["label", *PIXELS])
    dataset = load_arrays(tmp_path / "fashion-mnist_train.csv")
    assert (len(dataset.train), len(dataset.test)) == (8, 4)
    assert "fashion-mnist_test.csv held out" in recognised(dataset)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3,4\n1,2,3\n", r"line 2: it has 3 columns where 4 are wanted"),
        ("1,2,3,4\n1,2,3,4\n1,2,x,4\n", r"line 3: could not convert string 'x'"),
        ("a,b,c,d\n", "it holds no rows"),
        ("", "it is empty"),
        ("one,two,three\n1,2,3\n", "3 columns beside the labels make no image of a square: one, two, three"),
        ("1," * 9_000_000, "longer than an image"),
    ],
    ids=["cut off", "text", "header alone", "empty", "words", "long"],
)
def test_a_table_that_is_none_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        load_arrays(tmp_path / "a.csv")


# ------------------------------------------------------------------------------------------------------------------- all


def test_every_format_has_a_line() -> None:
    assert len({reader.title for reader in READERS}) == len(READERS)
    assert all(reader.about.startswith("Read ") and reader.about.endswith(".") for reader in READERS)


@pytest.mark.parametrize("options", [ArrayOptions(flat_size=(28, 28)), ArrayOptions(slices=True), ArrayOptions(labels_key="kind")])
def test_an_option_that_a_format_does_not_heed_is_refused(tmp_path: Path, options: ArrayOptions) -> None:
    np.savez(tmp_path / "samples.npz", COLOUR)
    with pytest.raises(DataError, match=r"is recognised as guided-diffusion's samples, "):
        load_arrays(tmp_path / "samples.npz", options)


def test_labels_and_images_of_differing_length(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "a.npz", GREY, LABELS[:8, None])
    with pytest.raises(DataError, match=r"val_labels are int64 \[2\], not 3 whole numbers"):
        load_arrays(path)


@pytest.mark.parametrize("size", [100, 300, 5000])
@pytest.mark.parametrize("name", ["a.npz", "a.mat", "b.mat", "a.h5"])
def test_files_that_are_cut_off(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / name
    arrays = {"images": RNG.integers(0, 256, (12, 28, 28), np.uint8), "labels": LABELS}
    if name == "a.npz":
        np.savez(path, **arrays)
    elif name == "a.h5":
        save_73(path, **arrays)
    else:
        savemat(path, arrays, do_compression=name == "a.mat")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"cannot be read|holds nothing|of no format"):
        load_arrays(path)


def test_hdf5_without_h5py_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_73(tmp_path / "a.mat", images=GREY)
    monkeypatch.setattr("ddpm_cli.core.extras.missing_packages", lambda *packages: list(packages))
    with pytest.raises(RequestError, match=r"a\.mat, an HDF5 file, needs h5py") as caught:
        load_arrays(tmp_path / "a.mat")
    assert "[hdf5]" in caught.value.remedy


def test_one_word_for_the_data_finds_files_and_folders_of_arrays(tmp_path: Path) -> None:
    def kind(path: Path) -> str:
        return data_flags(str(path))["data.kind"][0]

    for name in ("a.mat", "a.h5", "a.HDF5", "train_X.bin", "a.csv", "a.csv.gz", "train_data_batch_1", "a.npz"):
        (tmp_path / name).touch()
        assert kind(tmp_path / name) == "arrays"
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"is a file, but none of .npz, "):
        kind(tmp_path / "a.txt")
    folders = {
        "cat.npy": "arrays",
        "train_data_batch_1.npz": "arrays",
        "train_X.bin": "arrays",
        "a.txt": "folder",
        "a.csv": "folder",
    }
    for number, (name, expected_kind) in enumerate(folders.items()):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        (folder / name).touch()
        assert kind(folder) == expected_kind
        (folder / "picture.png").touch()
        assert kind(folder) == "folder"
