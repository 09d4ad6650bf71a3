"""Read NumPy's .npy files, which may be damaged or come from a stranger: numbers alone, never pickles."""

from __future__ import annotations

import os
import tokenize
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddpm_cli.core.io.files import UnreadableError, open_regular, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAY_ERRORS = (ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError, MemoryError)
"""With which NumPy meets damage: it reads the header as a Python literal, by Python's own tokenizer and parser."""


def read_array(path: Path, mapped: Literal["c"] | None = None) -> NDArray[Any]:
    """Read an array.

    Args:
        path: An ordinary file.
        mapped: "c" to bring in from the file what is looked at; what is written to the array, the file never sees.
    Raises:
        UnreadableError: If it is missing, damaged, no array of numbers, or no ordinary file.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    import numpy as np

    os.close(open_regular(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a header is odd: what is wrong with it, an error says
            found = np.load(path, mapped, allow_pickle=False)
    except ARRAY_ERRORS as error:
        raise UnreadableError(f"is truncated or no array of numbers ({printable(str(error))})") from error
    if not isinstance(found, np.ndarray):
        raise UnreadableError("is an archive, not one array")
    return found
