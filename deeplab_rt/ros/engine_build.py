"""Building a TensorRT engine beside the node: in a process of its own, with its words in the log.

A build takes minutes and most of a GPU's memory, and cannot be interrupted from within: as a process
it can be ended, and what it allocates is gone when it is done.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

from deeplab_rt.ros.parameters import Settings

END_S = 1.0  # how long a build that is asked to end may take before it is killed


def build_command(settings: Settings) -> list[str]:
    """The command line that builds the engine for these settings on this machine."""
    batch = str(len(settings.camera_names))
    command = [sys.executable, "-m", "deeplab_rt", "build", "--model", settings.model]
    command += ["--precision", settings.precision, "--batch", batch]
    command += ["--device", str(settings.device)] if settings.device else []
    return [*command, "--size", settings.input_size] if settings.input_size else command


class EngineBuild:
    """One build that is running, or has ended."""

    def __init__(self, settings: Settings, log: Callable[[str], None]) -> None:
        """Start it.

        Args:
            settings: what to build for.
            log: takes every line that the build says, in a thread.
        """
        self._log = log
        self._last = "it said nothing"
        self._process = subprocess.Popen(
            build_command(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="engine build", daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def failure(self) -> str | None:
        """Why it has failed: its last words; None if it is running or has succeeded."""
        if not self._process.poll():
            return None
        self._reader.join(END_S)
        return self._last

    def close(self) -> None:
        """End it if it is still running."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._last = line.strip()
                self._log(f"engine build: {self._last}")
