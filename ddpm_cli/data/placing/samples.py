"""Choose the picture of each sample of WebDataset's, beside which masks or depth maps may lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.errors import DataError

_KEY = re.compile(r"([a-z][\w-]*\.)*[a-z][\w-]*")
FEW_KEYS = 4
"""Extensions that a few samples may have; many samples have fewer of them than there are samples."""


def sample_of(name: str) -> str:
    """Take a file's name up to its first dot, which the files of one sample of WebDataset share."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def extension_of(name: str) -> str:
    """Take what follows the first dot of a name, such as `jpg` or `mask.png`, which tells the files of a sample apart."""
    return name[len(sample_of(name)) + 1 :].lower()


def pictures_of_samples(names: Sequence[str], wanted: str | None, source: str, *, marked: bool) -> list[int]:
    """Choose the picture of each sample: of several that whose extension has no dot in it, so `0.jpg` beside `0.mask.png`.

    Args:
        names: Of the pictures.
        wanted: Extension of the pictures; None chooses.
        source: The collection, for messages.
        marked: Whether files of classes say that these are samples; else names such as `cat.1.jpg`, which differ in what is no
            word or in each sample, are those of single pictures.
    Returns:
        Numbers of those that are chosen: all of them where nothing lies beside a picture.
    Raises:
        DataError: If none has the extension that is wanted, or a sample has several without a dot, or none.
    """
    extensions = [extension_of(name) for name in names]
    if wanted is not None:
        return _of_extension(extensions, wanted.lower().removeprefix("."), source)
    samples: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        samples.setdefault(sample_of(name), []).append(number)
    several = [numbers for numbers in samples.values() if len(numbers) > 1]
    found = {extensions[number] for numbers in several for number in numbers}
    if not several or not (marked or _are_keys(found, len(several))):
        return list(range(len(names)))
    for numbers in several:
        if sum("." not in extensions[number] for number in numbers) != 1:
            raise _ambiguous(names, numbers, extensions, source, marked)
    beside = {extension for extension in found if "." in extension}  # which may also lie alone where a picture is missing
    return [number for number, extension in enumerate(extensions) if extension not in beside]


def beside_notice(names: Sequence[str], chosen: Iterable[int], source: str) -> str:
    """Tell what was left out beside the pictures of samples."""
    kept = set(chosen)
    left_out = Counter(extension_of(name) for number, name in enumerate(names) if number not in kept)
    listed = first_few([f".{printable(extension)}" for extension, _ in left_out.most_common()])
    return (
        f"Took one picture of each sample in {source}, not {counted(left_out.total())} beside them ({listed}). For others: "
        "--set data.image_column=EXTENSION"
    )


def _are_keys(extensions: Iterable[str], samples: int) -> bool:
    """Whether extensions are those of samples: words, and as few as the same in each sample are."""
    found = set(extensions)
    return len(found) <= max(FEW_KEYS, samples) and all(_KEY.fullmatch(extension) for extension in found)


def _of_extension(extensions: Sequence[str], wanted: str, source: str) -> list[int]:
    if chosen := [number for number, extension in enumerate(extensions) if extension == wanted]:
        return chosen
    raise DataError(
        f'No picture of {source} has the extension "{printable(wanted)}", only {_listed(extensions)}.',
        "Name one of these: --set data.image_column=EXTENSION",
    )


def _ambiguous(names: Sequence[str], numbers: Sequence[int], extensions: Sequence[str], source: str, marked: bool) -> DataError:
    unpack = "" if marked else "; or unpack them, and train on all that lies in the folder"
    beside = ", ".join(f".{printable(one)}" for one in sorted((extensions[number] for number in numbers), key=_dots)[:FEW_KEYS])
    return DataError(
        f"The samples of {source} hold several pictures, such as {shown(sample_of(names[numbers[0]]))} {beside}, and nothing says "
        f"which is the one to train on; in all there are {_listed(extensions)}.",
        f"Say which: --set data.image_column=EXTENSION{unpack}",
    )


def _listed(extensions: Sequence[str]) -> str:
    counts = sorted(Counter(extensions).items(), key=lambda item: (-item[1], _dots(item[0]), item[0]))
    return first_few([f"{count:,} .{printable(extension)}" for extension, count in counts])


def _dots(extension: str) -> int:
    return extension.count(".")
