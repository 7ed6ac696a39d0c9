"""A running segmenter tells nobody: no process is forked, no address is connected to."""

from __future__ import annotations

import subprocess
import sys

from deeplab_rt.models import Model

CODE = """
import sys
seen = []
def note(event, arguments):
    if event in ("os.fork", "os.posix_spawn", "socket.connect", "socket.getaddrinfo"):
        seen.append(event)
sys.addaudithook(note)
import time
import numpy as np
from deeplab_rt import Segmenter
with Segmenter(sys.argv[1], backend="cpu") as segmenter:
    segmenter.segment(np.zeros((8, 8, 3), np.uint8))
time.sleep(1)  # what is sent is sent by a thread
print(seen)
"""


def test_no_process_and_no_connection(palette_model: Model) -> None:
    command = [sys.executable, "-c", CODE, str(palette_model.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
