"""The programs that the package installs. Ctrl-C while they are still importing ends them in silence.

Nothing heavy is imported here: a traceback through half-imported libraries helps nobody.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module


def program() -> int:
    """``deeplab_rt``; also ``python -m deeplab_rt``."""
    return _imported("deeplab_rt.commands")()


def segmenter_node() -> int | None:
    """``segmenter_node``."""
    return _imported("deeplab_rt.ros.node")()


def camera_node() -> int | None:
    """``camera_node``."""
    return _imported("deeplab_rt.ros.camera_node")()


def _imported(module: str) -> Callable[[], int]:
    """``main`` of a module, imported while SIGINT ends the process at once.

    As an exception it would be swallowed, or turned into an ImportError, by whatever C extension is
    being initialised.
    """
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main: Callable[[], int] = import_module(module).main
    signal.signal(signal.SIGINT, previous)
    return main
