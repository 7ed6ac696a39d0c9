"""placeholder"""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    subparsers.add_parser("demo")


def run(args: argparse.Namespace) -> int:
    raise NotImplementedError
