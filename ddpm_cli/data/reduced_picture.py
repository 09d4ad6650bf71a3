"""Any one picture, brought to a size at which many fit beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.folder import read_file
from ddpm_cli.data.picture import decode, quiet_decoders, read_header
from ddpm_cli.data.pictures import printable
from ddpm_cli.errors import DataError
from ddpm_cli.files import UnreadableError

REMEDY = "Name a picture: .png, .jpg, .webp, .gif, .bmp, .tif ..."


def read_reduced(path: Path, longest: int) -> NDArray[np.uint8]:
    """A picture whose sides are at most `longest`; a smaller one stays as it is, and proportions stay.

    Args:
        path: The file, of any format that training reads.
        longest: Pixels.
    Returns:
        uint8 [C, H, W] with 1 or 3 channels; white shows through where it is transparent.
    Raises:
        DataError: If it cannot be read.
    """
    try:
        with quiet_decoders():
            content = read_file(path.parent, path.name)
            header = read_header(content)
            scale = min(1.0, longest / max(header.height, header.width))
            height, width = (max(round(scale * side), 1) for side in (header.height, header.width))
            return decode(content, (header.channels, height, width), "white")
    except UnreadableError as error:
        raise DataError(f"{printable(str(path))} {error}.", REMEDY) from error
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror}.", REMEDY) from error
