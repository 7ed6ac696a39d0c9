"""Every kernel at odd sizes under ASan and UBSan: ``sanitized.py LIBRARY [overflow]``.

With ``overflow`` the mask buffers are one byte too small, to show that the sanitizer looks.
"""

import sys
from pathlib import Path

import numpy as np
from host_gpu import HostKernels, sanitized_cases

from deeplab_rt.labels import load_label_set

library = Path(sys.argv[1])
if "overflow" in sys.argv:
    logits = np.zeros((11, 24, 32), np.float32)
    HostKernels(library).masks(logits, (48, 64), load_label_set("camvid11"), shorten=1)
else:
    sanitized_cases(
        library, [(1, 1), (2, 3), (96, 128), (97, 131), (301, 77), (5, 700), (480, 640)]
    )
print("clean")
