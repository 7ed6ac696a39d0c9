"""Values on the command line: times, counts, weights, shards; a wrong one is wrong usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from deeplab_rt.camera.image_range import ImageRange

T = TypeVar("T")


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser that tells argparse what its ValueError says."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def parse_time(text: str) -> float:
    """Seconds of ``SS.S``, ``MM:SS`` or ``H:MM:SS``.

    Raises:
        ValueError: it is not such a time.
    """
    parts = text.strip().split(":")
    try:
        numbers = [*(int(part) for part in parts[:-1]), float(parts[-1])]
    except ValueError:
        numbers = [-1.0]
    if len(numbers) > 3 or any(not 0 <= n < 60 for n in numbers[1:]) or not 0 <= numbers[0] < 1e9:
        raise ValueError(f"{text!r} is not a time; expected seconds, MM:SS or H:MM:SS")
    seconds = 0.0
    for number in numbers:
        seconds = 60 * seconds + number
    return seconds


def parse_count(text: str) -> int:
    """A whole number from 1 on.

    Raises:
        ValueError: it is not.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 10**9:
        raise ValueError(f"{text!r} is not a count; expected a whole number from 1 on")
    return int(text)


def parse_image_range(text: str) -> ImageRange:
    """``LOW,HIGH`` in samples or ``LOW%,HIGH%``.

    Raises:
        ValueError: it is neither.
    """
    from deeplab_rt.camera.image_range import (
        ImageRange,
    )  # here, so that the help does not load NumPy

    return ImageRange.parse(text)


def parse_weight(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        ValueError: it is not.
    """
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise ValueError(f"{text!r} is not a weight; expected 0 to 1")
    return weight


def parse_shard(text: str) -> tuple[int, int]:
    """``I/N`` as (I, N).

    Raises:
        ValueError: it is not two whole numbers with 1 <= I <= N.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is not a shard; expected I/N with 1 <= I <= N, as in 2/8")
    return int(match[1]), int(match[2])
