"""Say counts and lists, in messages and on the screen."""

from __future__ import annotations

from collections.abc import Sequence

FEW = 5


def counted(count: int, noun: str = "picture", several: str | None = None) -> str:
    """Say `1 picture`, `2,000 pictures`; `several` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def first_few(items: Sequence[str], few: int = FEW, between: str = ", ") -> str:
    """Say `a, b, c and 37 more`."""
    rest = f" and {len(items) - few:,} more" if len(items) > few else ""
    return between.join(items[:few]) + rest
