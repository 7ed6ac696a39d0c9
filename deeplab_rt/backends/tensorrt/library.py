"""TensorRT itself: the full library or TensorRT-RTX, whichever is installed, and its log."""

from __future__ import annotations

import importlib
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_rt.backends.tensorrt.engine_spec import LIBRARY_TITLES
from deeplab_rt.errors import BackendError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        module: ``tensorrt`` or ``tensorrt_rtx``; one API.
        name: of the module.
        version: as in ``10.3.0``.
    """

    module: Any
    name: str
    version: str

    def __str__(self) -> str:
        return f"{LIBRARY_TITLES[self.name]} {self.version}"


def load(name: str | None = None) -> Library:
    """Import TensorRT, the full library before TensorRT-RTX.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx`` to have that one alone.

    Raises:
        BackendError: none is installed or can be loaded; the message says why for each.
    """
    names = (name,) if name else tuple(LIBRARY_TITLES)
    reasons = []
    for candidate in names:
        try:
            module = importlib.import_module(candidate)
            return Library(module, candidate, str(module.__version__))
        except (ImportError, OSError, AttributeError) as error:
            # AttributeError: a folder of that name on the path, taken for a package.
            reasons.append(f"{LIBRARY_TITLES[candidate]}: {' '.join(str(error).split())[:160]}")
    raise BackendError(
        f"TensorRT is not installed or cannot be loaded ({'; '.join(reasons)}); JetPack brings it, "
        "elsewhere `pip install tensorrt-rtx`; see docs/install.md"
    )


def make_log(library: Library, path: Path | None = None) -> Any:
    """An ``ILogger`` that keeps the last errors and writes everything to a file, if one is given.

    Without a file TensorRT's warnings go to this module's logger: that an engine is another device's
    is told there and nowhere else. Its ``errors`` is a deque of the last error messages, its
    ``close()`` closes the file.
    """
    trt = library.module

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)
            self._file = path.open("w", encoding="utf-8") if path else None

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))
            elif severity == trt.ILogger.WARNING and not self._file:
                LOG.warning("%s: %s", LIBRARY_TITLES[library.name], " ".join(message.split()))
            if self._file:
                self._file.write(f"[{str(severity).rpartition('.')[2]}] {message}\n")

        def reason(self) -> str:
            """The first of the errors kept, which is most often the cause of the others."""
            return self.errors[0] if self.errors else "TensorRT gave no reason"

        def close(self) -> None:
            if self._file:
                self._file.close()
                self._file = None

    return Log()
