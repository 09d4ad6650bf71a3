"""Describe the config's `[data]`: every source of images and what can be said about it."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator

from ddpm_cli.config.schema.data_range import ValueRange
from ddpm_cli.config.schema.section import Choice, FilePath, OneOf, PositiveInt, Share, one_alone
from ddpm_cli.core.io.files import readable
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.names import plain
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.data.pictures.settings import Pictures, PictureSettings
    from ddpm_cli.results.events import Listener


Transformation = Literal["x-flip", "y-flip", "scale", "rotate", "stretch", "shift"]


class DataBase(Choice):
    """Load images from a source."""

    limit: PositiveInt | None = Field(None, description="Use only this many training images.")
    horizontal_flip: bool = Field(
        False, description="Mirror each image with probability 1/2. This is wrong for letters, digits and shoes."
    )

    augment: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability of each transformation of an image, of which samples show none (Karras et al. 2022, who took 0.12 "
        "to 0.15). For few pictures. 0 is off.",
    )
    augment_by: Annotated[tuple[Transformation, ...], BeforeValidator(one_alone)] = Field(
        get_args(Transformation), min_length=1, description="The transformations that augment applies."
    )

    @property
    def limit_keeps_classes_even(self) -> bool:
        """Tell whether `limit` takes images evenly of each class, not the first ones."""
        return False

    @abstractmethod
    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load all images, before `limit` takes some of them; `build.data.build_dataset` is the way in.

        Args:
            on_event: Told of downloads and progress.
            trained_on: Whether a model was trained on them before. Then no others take the place of images that cannot be had.
        Raises:
            DataError: If they are nowhere to be had, or unusable.
        """


class DataFromFiles(DataBase):
    root: FilePath | None = Field(None, description="Folder that holds the data set's files. It is looked in first.")


class FashionMnistData(DataFromFiles):
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28 grey (Xiao et al. 2017)."""

    kind: Literal["fashion-mnist"] = "fashion-mnist"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the files, or, for a model that is new, the bundled subset where they cannot be had."""
        from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist

        return load_fashion_mnist(self.root, on_event, stand_in=not trained_on)


class FashionMnist10kData(DataBase):
    """Load the bundled balanced subset of Fashion-MNIST: 10,000 training and 2,000 test images."""

    kind: Literal["fashion-mnist-10k"] = "fashion-mnist-10k"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the bundled subset."""
        from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k

        return load_fashion_mnist_10k()


class MnistData(DataFromFiles):
    """Load MNIST: 60,000 training and 10,000 test images of digits, 28x28 grey (LeCun et al. 1998)."""

    kind: Literal["mnist"] = "mnist"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files."""
        from ddpm_cli.data.sources.torchvision_sets import load_mnist

        return load_mnist(self.root, on_event)


class KmnistData(DataFromFiles):
    """Load KMNIST: 60,000 training and 10,000 test images of cursive hiragana, 28x28 grey (Clanuwat et al. 2018)."""

    kind: Literal["kmnist"] = "kmnist"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files."""
        from ddpm_cli.data.sources.torchvision_sets import load_kmnist

        return load_kmnist(self.root, on_event)


class EmnistData(DataFromFiles):
    """Load EMNIST: up to 814,255 letters and digits, 28x28 grey, upright (Cohen et al. 2017)."""

    kind: Literal["emnist"] = "emnist"
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = Field(
        "balanced", description="Which of EMNIST's six sets to load. balanced has 47 classes."
    )

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files of one of its sets."""
        from ddpm_cli.data.sources.torchvision_sets import load_emnist

        return load_emnist(self.split, self.root, on_event)


class Cifar10Data(DataFromFiles):
    """Load CIFAR-10: 50,000 training and 10,000 test images, 32x32 colour (Krizhevsky 2009)."""

    kind: Literal["cifar10"] = "cifar10"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files."""
        from ddpm_cli.data.sources.cifar import CIFAR10, load_cifar

        return load_cifar(CIFAR10, self.root, on_event)


class Cifar100Data(DataFromFiles):
    """Load CIFAR-100: 50,000 training and 10,000 test images of 100 classes, 32x32 colour (Krizhevsky 2009)."""

    kind: Literal["cifar100"] = "cifar100"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files."""
        from ddpm_cli.data.sources.cifar import CIFAR100, load_cifar

        return load_cifar(CIFAR100, self.root, on_event)


class SvhnData(DataFromFiles):
    """Load SVHN: 73,257 training and 26,032 test images of house numbers, 32x32 colour (Netzer et al. 2011)."""

    kind: Literal["svhn"] = "svhn"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published files."""
        from ddpm_cli.data.sources.torchvision_sets import load_svhn

        return load_svhn(self.root, on_event)


def parse_size(value: Any) -> Any:
    """Parse height and width from "64x48", or one number for both; a list of two numbers is taken as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", value.strip())
        if match is None:
            raise ValueError(f'must be HxW such as "64x48", or one number, of up to five digits, not "{value}"')
        return (int(match[1]), int(match[2] or match[1]))
    return value


def parse_channels(value: Any) -> int | str:
    """Parse 1 to 16 or "auto"; text, as a flag gives it, may hold the number."""
    if isinstance(value, str) and plain(value) == "auto":
        return "auto"
    if str(value) in map(str, range(1, MOST_CHANNELS + 1)) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f'must be 1 to {MOST_CHANNELS} or "auto", not {value}')


def check_colour(value: str) -> str:
    """Accept white, black or #rrggbb."""
    found = value if value.startswith("#") else plain(value)
    if re.fullmatch(r"white|black|#[0-9a-fA-F]{6}", found) is None:
        raise ValueError(f'must be "white", "black" or "#rrggbb", not "{value}"')
    return found


ImageSize = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(parse_size),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", when_used="json-unless-none"),
]


MOST_CHANNELS = 16


class RangedData(DataBase):
    range: ValueRange = Field(
        "auto",
        description='Values that become black and white: [LOW, HIGH], "dtype" (all that its numbers can be, 0 to 1 of floats), '
        'percentiles ("1%..99%"). auto takes what the files say, else the usual values, else the extremes of the set.',
    )


class PicturesBase(RangedData):
    size: ImageSize | None = Field(
        None,
        description="HxW or one number. The short side is resized, the long one is cut. Unset if all pictures have one size.",
    )
    channels: Annotated[int | str, PlainValidator(parse_channels)] = Field(
        "auto",
        description="1 is grey, 2 is grey and alpha, 3 is colour, 4 is colour and alpha. auto takes what all pictures have.",
    )
    background: Annotated[str, AfterValidator(check_colour)] = Field(
        "white", description="Colour that shows through transparent parts: white, black or #rrggbb."
    )
    small: Literal["refuse", "skip", "enlarge"] = Field("refuse", description="What becomes of pictures smaller than size.")
    strict: bool = Field(False, description="Refuse to train if any picture cannot be read, instead of leaving it out.")

    def picture_settings(self, *, held_out: float = 0.0) -> PictureSettings:
        """Say what becomes of pictures that are still encoded.

        Args:
            held_out: Share that is held out where the collection has no split of its own.
        """
        from ddpm_cli.data.pictures.settings import PictureSettings

        return PictureSettings(
            size=self.size,
            channels=None if isinstance(self.channels, str) else self.channels,
            background=self.background,
            small=self.small,
            held_out=held_out,
            strict=self.strict,
            range=self.range,
        )


class HeldOutShare(DataBase):
    held_out: Share = Field(
        0.1, description="Share that is held out, chosen by content, where the data has no split of its own. 0 holds out none."
    )


class CelebaData(PicturesBase):
    """Load CelebA: 202,599 photographs of faces, 218x178 colour, without classes (Liu et al. 2015)."""

    kind: Literal["celeba"] = "celeba"
    root: FilePath | None = Field(None, description="Folder that holds the data set's files. It is looked in first.")

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the published pictures."""
        from ddpm_cli.data.sources.celeba import load_celeba

        return load_celeba(self.root, self.picture_settings(), on_event)


class OwnPictures(PicturesBase, HeldOutShare):
    splits: Literal["auto", "none", "old"] = Field(
        "auto",
        description="auto tells train/, val/ and test/ from classes. none takes all as classes. old does as earlier versions did.",
    )
    label_column: str | None = Field(
        None,
        description="Column of the classes in metadata.csv, metadata.jsonl, parquet or samples' .json. If unset, folders tell.",
    )
    image_column: str | None = Field(
        None,
        description="Column of the pictures in parquet; elsewhere their extension, such as jpg or mask.png. If unset, the only "
        "column, and of several pictures of a sample of WebDataset that whose extension has no dot in it.",
    )

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Read the pictures."""
        from ddpm_cli.data.cache.loading import load_pictures

        settings = self.picture_settings(held_out=self.held_out)
        return load_pictures(self.find_pictures(), settings, on_event)

    @abstractmethod
    def find_pictures(self) -> Pictures:
        """Find the pictures, still encoded.

        Raises:
            DataError: If there are none, or they make no data set.
        """


class FolderData(OwnPictures):
    """Read a folder of your own pictures: flat, a subfolder for each class, or either below train/, val/ and test/."""

    kind: Literal["folder"] = "folder"
    root: FilePath | None = Field(None, description="The folder.")
    follow_links: bool = Field(False, description="Follow links that lead out of the folder.")

    def find_pictures(self) -> Pictures:
        """Find the pictures in the folder."""
        from ddpm_cli.data.sources.folder import scan_folder

        if self.root is None:
            raise DataError("The kind folder needs a folder.", "Name it: --data DIR (data.root).")
        root = user_path(self.root, "data.root", DataError)
        return scan_folder(
            root,
            self.splits,
            follow_links=self.follow_links,
            with_tables=self.splits != "old",
            label_column=self.label_column,
            image_column=self.image_column,
        )


class ArchiveData(OwnPictures):
    """Read your own pictures in a .zip, .tar, .tar.gz, .tar.zst or .parquet file, or WebDataset's shards, without unpacking."""

    kind: Literal["archive"] = "archive"
    path: FilePath | None = Field(None, description="The file, a pattern such as shard-{000..010}.tar, or a folder of shards.")

    def find_pictures(self) -> Pictures:
        """Find the pictures in the archive."""
        from ddpm_cli.data.archives.collection import open_archive

        if self.path is None:
            raise DataError("The kind archive needs a file.", "Name it: --data FILE.zip (data.path).")
        path = user_path(self.path, "data.path", DataError)
        return open_archive(path, self.splits, self.label_column, self.image_column)


class HuggingFaceData(PicturesBase, HeldOutShare):
    """Load a data set from the Hugging Face Hub, or one that its datasets library has saved."""

    kind: Literal["huggingface"] = "huggingface"
    name: str | None = Field(None, description="Name on the Hub, or path of a folder.")
    subset: str | None = Field(None, description="Configuration on the Hub, where there are several.")
    split: str = Field("train", description="Split to train on.")
    held_out_split: str | None = Field(None, description="Split to hold out. If unset, a share of split is held out.")
    image_column: str | None = Field(None, description="Column of the images. If unset, the only such column.")
    label_column: str | None = Field(None, description="Column of the classes, numbers or texts. If unset, the only ClassLabel.")

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Load the data set from the Hub, its cache or a folder."""
        from ddpm_cli.data.sources.huggingface import HubQuery, load_huggingface

        if self.name is None:
            raise DataError("The kind huggingface needs the name of a data set.", "Name it: --set data.name=NAME")
        query = HubQuery(self.name, self.subset, self.split, self.held_out_split, self.image_column, self.label_column)
        settings = self.picture_settings(held_out=self.held_out)
        return load_huggingface(query, settings, on_event)


class ArraysData(HeldOutShare, RangedData):
    """Read files of arrays: your own as .npz, .npy, .mat or HDF5, tables of pixels, and published ones, which are recognised."""

    kind: Literal["arrays"] = "arrays"
    take: Literal["evenly", "first"] = Field(
        "evenly", description="What limit keeps: evenly of each class, or the first of the file, as in earlier versions."
    )
    path: FilePath | None = Field(None, description="The file, or a folder of QuickDraw's, ImageNet's or STL-10's files.")
    layout: Literal["auto", "NHWC", "NCHW"] = Field("auto", description="Where the channels are, if the shape does not tell.")
    images_key: str | None = Field(None, description="Key of the images, where the file is of no format that is known.")
    labels_key: str | None = Field(None, description="Key or column of the labels; ignore reads none, of any format.")
    slices: bool = Field(False, description="Take volumes as slices, which 3-D MedMNIST needs.")
    flat_size: ImageSize | None = Field(None, description="HxW of images that lie flat as rows of pixels, if not square.")

    @property
    def limit_keeps_classes_even(self) -> bool:
        """Tell whether `limit` takes images evenly of each class, not the first ones."""
        return self.take == "evenly"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Read the file."""
        from ddpm_cli.data.sources.arrays import load_arrays
        from ddpm_cli.data.sources.formats.reader import ArrayOptions

        if self.path is None:
            raise DataError("The kind arrays needs a file.", "Name it: --data FILE.npz (data.path).")
        options = ArrayOptions(self.layout, self.images_key, self.labels_key, self.slices, self.flat_size)
        return load_arrays(user_path(self.path, "data.path", DataError), options, self.held_out, value_range=self.range)


class SlicesData(HeldOutShare, RangedData):
    """Read the slices of scans: NIfTI, DICOM and TIFF of several pages or up to 16 channels; needs the extra medical."""

    kind: Literal["slices"] = "slices"
    path: FilePath | None = Field(None, description="A scan, or a folder of scans, or of a subfolder for each class.")
    size: ImageSize | None = Field(
        None, description="HxW or one number. The short side is resized, the long one is cut. Unset if all slices have one size."
    )
    axis: Literal["auto", 0, 1, 2] = Field(
        "auto",
        description="Axis that is cut. Of NIfTI 0 makes sagittal, 1 coronal, 2 axial slices (auto). Of stacks 0 takes the pages "
        "(auto), 1 their rows, 2 their columns.",
    )
    skip_empty: bool = Field(True, description="Leave out slices of one value, such as those outside of the body.")
    strict: bool = Field(False, description="Refuse to train if any scan cannot be read, instead of leaving it out.")

    @property
    def limit_keeps_classes_even(self) -> bool:
        """Tell whether `limit` takes images evenly of each class, not the first ones, which are those of one scan."""
        return True

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Read the scans."""
        from ddpm_cli.data.volumes.slices import SliceSettings, load_slices

        if self.path is None:
            raise DataError("The kind slices needs a scan or a folder of scans.", "Name it: --data PATH (data.path).")
        axis = None if isinstance(self.axis, str) else self.axis
        settings = SliceSettings(self.size, axis, self.skip_empty, self.held_out, self.strict)
        return load_slices(user_path(self.path, "data.path", DataError), settings, on_event, value_range=self.range)


class MissingData(DataBase):
    """Stand, in the config of a stored model, for a data set that no installed package adds; the model can be sampled from."""

    model_config = ConfigDict(extra="allow")

    kind: str = "missing"

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Refuse, as there are no images."""
        raise DataError(
            f'The model was trained on "{readable(self.kind)}", a data set that no installed package adds.',
            "Install the package that adds it.",
        )


DataConfig = Annotated[
    DataBase,
    OneOf(
        "ddpm.data",
        FashionMnistData,
        FashionMnist10kData,
        MnistData,
        KmnistData,
        EmnistData,
        Cifar10Data,
        Cifar100Data,
        SvhnData,
        CelebaData,
        FolderData,
        ArchiveData,
        HuggingFaceData,
        ArraysData,
        SlicesData,
        stand_in=MissingData,
    ),
]
