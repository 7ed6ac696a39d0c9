"""Spinning an executor so that no callback that raises can end the process."""

from __future__ import annotations

import time
import traceback
from typing import Any

from rclpy.executors import Executor, ExternalShutdownException, ShutdownException

from deeplab_rt.errors import one_line

REPEAT_S = 5.0  # the same error is not logged again sooner
PAUSE_S = 0.001  # after an error, so that one that comes back at once leaves the core to others


class GuardedSpin:
    """``spin_once`` that logs what a callback raises and goes on.

    rclpy has callbacks of its own, which raise too: its parameter services do so on a value of a type
    that they do not know, which any node of the network may send. The request then stays unanswered.
    """

    def __init__(self, executor: Executor, logger: Any) -> None:
        """Guard an executor.

        Args:
            executor: of one thread.
            logger: of the node, as ``get_logger()`` gives it.
        """
        self._executor = executor
        self._logger = logger
        self._logged: dict[str, float] = {}

    def once(self, timeout_s: float) -> None:
        """Run one callback, or wait that long for one.

        Raises:
            ExternalShutdownException, ShutdownException: there is nothing to spin any more.
        """
        try:
            self._executor.spin_once(timeout_sec=timeout_s)
        except (ExternalShutdownException, ShutdownException):
            raise
        except Exception as error:
            self._log(error)
            time.sleep(PAUSE_S)

    def _log(self, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
        now = time.monotonic()
        if now - self._logged.get(kind, -REPEAT_S) < REPEAT_S:
            return
        self._logged[kind] = now
        words = one_line(error)[:200]
        self._logger.error(f"a callback failed, going on: {kind}: {words}")
        self._logger.debug("".join(traceback.format_exception(error)))
