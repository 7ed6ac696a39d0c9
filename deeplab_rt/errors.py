"""The errors a user can meet. Each message says what was wrong, what was expected and what fixes it.

The program prints the message of a :class:`DeeplabError` as one line on stderr and exits 1; so it
does with what the operating system and the parsers of damaged files raise (``commands/failures.py``).
Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def reason_of(error: BaseException) -> str:
    """An error's message for the middle of a sentence; its type where it says nothing."""
    return one_line(error).rstrip(".") or type(error).__name__


class DeeplabError(Exception):
    """Base of every error that a user can cause and fix."""


class LabelError(DeeplabError):
    """A label set or label name is unknown or malformed."""


class ModelError(DeeplabError):
    """A model directory, its manifest or one of its files is missing, corrupt or does not fit."""


class FrameError(DeeplabError):
    """One frame cannot be used (shape, type, size, encoding). The next one may be fine."""


class BackendError(DeeplabError):
    """A backend cannot be made or failed while running (no device, no library, out of memory)."""


class EngineError(BackendError):
    """A compiled engine is missing, stale, or was built for another device, version or model."""


class StreamError(DeeplabError):
    """An input or output stream (camera, video, folder, bag, viewer) cannot be opened, read or written."""


class DataError(DeeplabError):
    """A training or evaluation data set is malformed."""


class CheckpointError(DeeplabError):
    """A checkpoint is unreadable, of an unknown format, or does not fit the architecture."""
