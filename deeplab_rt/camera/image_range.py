"""Which part of 16 bits becomes the 8 bits that the network sees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_TEXT = re.compile(r"(\d+(?:\.\d+)?)(%?),(\d+(?:\.\d+)?)(%?)", re.ASCII)
_FULL = 65535
_SAMPLES = 20_000  # pixels of an image that percentiles are taken of


@dataclass(frozen=True)
class ImageRange:
    """Values from ``low`` to ``high`` become 0 to 255; what lies outside is cut off.

    Attributes:
        low: a value of 16 bits, or a percentile of the image's values.
        high: likewise.
        percentiles: which of the two. Percentiles follow the light, and change from frame to frame.
    """

    low: float = 0
    high: float = _FULL
    percentiles: bool = False

    @classmethod
    def parse(cls, text: str) -> ImageRange:
        """Read ``LOW,HIGH`` (0,1023 for 10 bits) or ``LOW%,HIGH%`` (1%,99%); empty for all 16 bits.

        Raises:
            ValueError: it is neither, or LOW is not below HIGH.
        """
        if not text:
            return cls()
        match = _TEXT.fullmatch(text.replace(" ", ""))
        if match and match[2] == match[4]:
            low, high, percentiles = float(match[1]), float(match[3]), bool(match[2])
            if low < high <= (100 if percentiles else _FULL):
                return cls(low, high, percentiles)
        raise ValueError(
            f"{text!r} is not a range; expected LOW,HIGH up to {_FULL}, as in 0,1023 for 10 bits, or "
            "two percentiles, as in 1%,99%"
        )

    def to_8_bits(self, samples: np.ndarray) -> np.ndarray:
        """Samples of 16 bits, of either byte order, as uint8 of the same shape."""
        low, high = self.low, self.high
        if self.percentiles:
            step = max(1, int((samples.size / _SAMPLES) ** 0.5))
            low, high = np.percentile(samples[::step, ::step], (self.low, self.high)).tolist()
        return np.asarray(_table(low, high).take(samples.astype(np.uint16)))


@lru_cache(maxsize=16)
def _table(low: float, high: float) -> np.ndarray:
    """uint8 [65536]: what each value becomes."""
    values = (np.arange(_FULL + 1) - low) * (255 / max(high - low, 1))
    return np.asarray(np.rint(values.clip(0, 255)).astype(np.uint8))
