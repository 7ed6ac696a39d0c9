"""``python -m deeplab_rt``."""

from __future__ import annotations

import sys

from deeplab_rt.entry_points import program

if __name__ == "__main__":
    sys.exit(program())
