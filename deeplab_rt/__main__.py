"""``python -m deeplab_rt``."""

from __future__ import annotations

import sys

from deeplab_rt.commands import main

if __name__ == "__main__":
    sys.exit(main())
