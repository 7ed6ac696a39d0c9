"""The ``deeplab_rt`` program: one thin module per subcommand.

A command module has ``add_parser(subparsers)``, which adds its arguments and imports nothing heavy,
and ``run(args) -> int``, which returns the exit code. Errors that a user can fix are raised as
:class:`~deeplab_rt.errors.DeeplabError`.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deeplab_rt import __version__
from deeplab_rt.commands import failures
from deeplab_rt.errors import DataError, DeeplabError
from deeplab_rt.frame import Size
from deeplab_rt.options import BACKENDS, PRECISIONS

COMMANDS = (
    "demo",
    "webcam",
    "replay",
    "build",
    "doctor",
    "bench",
    "eval",
    "train",
    "export",
    "quantize",
)


NEED_TRAIN = ("eval", "export", "quantize", "train")
"""Commands for which the extra ``train`` has to be installed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns:
        0 done, 1 failed with one line on stderr, 2 wrong usage, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="deeplab_rt",
        description="Drivable area and objects from camera frames at video rate.",
    )
    parser.add_argument("--version", action="version", version=f"deeplab_rt {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {name: importlib.import_module(f"deeplab_rt.commands.{name}") for name in COMMANDS}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    try:
        return int(modules[args.command].run(args))
    except KeyboardInterrupt:
        print(f"deeplab_rt {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; point stdout elsewhere so that the exit is silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _message(error, args)
        if message is None or os.environ.get(failures.TRACEBACK):
            raise
        print(f"deeplab_rt {args.command}: {message}", file=sys.stderr)
        return 1


def _message(error: Exception, args: argparse.Namespace) -> str | None:
    """What is printed of an error that a user, a file or the machine has caused; None for a defect."""
    if isinstance(error, DeeplabError):
        return failures.printable(error)
    if isinstance(error, ModuleNotFoundError):
        if args.command not in NEED_TRAIN or (error.name or "").startswith("deeplab_rt"):
            return None
        return (
            f"the package {error.name} is not installed; `pip install '.[train]'` in the repository "
            "brings it"
        )
    return failures.describe(error, args)


def whole_number(least: int, what: str) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least ``least``; for ``argparse``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 1 << 31:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} on")
        return value

    return parse


def positive_number(text: str) -> float:
    """The type of an argument that is a finite number above 0; for ``argparse``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def size_argument(text: str) -> Size:
    """``WxH`` on the command line."""
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def data_argument(text: str) -> tuple[str, Path]:
    """``SET=FOLDER`` on the command line.

    Raises:
        DataError: There is no = in it.
    """
    name, separator, folder = text.partition("=")
    if not separator:
        raise DataError(f"{text!r}; expected SET=FOLDER, as in camvid=DATA/camvid")
    return name, Path(folder)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--backend``, ``--precision`` and ``--size``, the same for every command."""
    from deeplab_rt.models import DEFAULT_MODEL

    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="model name or directory (default: %(default)s)"
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="default: %(default)s, the model's own choice",
    )
    parser.add_argument(
        "--size",
        type=size_argument,
        metavar="WxH",
        help="network input size (default: the model's)",
    )
