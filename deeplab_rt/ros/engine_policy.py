"""The Segmenter of the node's parameters, opened as ``engine_policy`` says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from deeplab_rt.errors import BackendError, DeeplabError, EngineError
from deeplab_rt.options import CPU_PRECISIONS
from deeplab_rt.ros.diagnostics import WARN, Status
from deeplab_rt.ros.engine_build import EngineBuild
from deeplab_rt.ros.parameters import ParameterError, Settings
from deeplab_rt.segmenter import Segmenter, check_mask_size
from deeplab_rt.worker import InferenceWorker


class EnginePolicy:
    """Opens a worker's Segmenter and, where an engine is missing, has it built and taken over."""

    def __init__(
        self, settings: Settings, worker: InferenceWorker, log: Callable[[str], None]
    ) -> None:
        """Nothing is loaded before :meth:`open`.

        Args:
            settings: the parameters.
            worker: gets the Segmenter.
            log: takes a line about a build.
        """
        self._settings = settings
        self._worker = worker
        self._log = log
        self._build: EngineBuild | None = None
        self._swapping = False

    def open(self, stopping: threading.Event) -> None:
        """Open the backend that was asked for; of a missing engine make what the policy says.

        Args:
            stopping: ends the wait for a build.

        Raises:
            DeeplabError: nothing can run; the message says what fixes it.
        """
        settings = self._settings
        if settings.backend == "cpu":
            self._worker.open(lambda: self._make("cpu"))
            return
        try:
            self._worker.open(lambda: self._make("tensorrt"))
            return
        except EngineError as error:  # the machine can run one, and has none
            if settings.engine_policy == "require" or settings.engine_file:
                raise
            self._log(f"{error}; building it now, which takes minutes")
        except DeeplabError:
            if settings.backend == "tensorrt":
                raise
            self._worker.open(lambda: self._make("auto"))
            return
        self._build = EngineBuild(settings, self._log)
        if settings.engine_policy == "cpu_while_building":
            self._worker.open(lambda: self._make("cpu"))
            return
        while self._build.running:
            if stopping.is_set():
                raise BackendError("stopped while the engine was built")
            time.sleep(0.1)
        if self._build.failure is not None:
            raise EngineError(f"the engine build failed: {self._build.failure}")
        self._build = None
        self._worker.open(lambda: self._make("tensorrt"))

    def apply(self, settings: Settings) -> None:
        """Take over what may change while running.

        Raises:
            DeeplabError: as :func:`apply` does; nothing was changed.
        """
        apply(settings, self._worker.segmenter)
        self._settings = settings

    def watch(self) -> None:
        """Now and then: let the engine take over when it is built."""
        build = self._build
        if build is None or build.running or build.failure is not None or self._swapping:
            return
        self._swapping = True
        self._worker.swap(lambda: self._make("tensorrt"), self._on_swapped)

    def close(self) -> None:
        """End a build that is running."""
        if self._build is not None:
            self._build.close()

    def report(self, status: Status) -> None:
        """Add to a status what runs, and whether that is what was asked for."""
        segmenter, build = self._worker.segmenter, self._build
        info = segmenter.info
        status.values |= {
            "model": segmenter.model.name,
            "backend": info.name,
            "version": info.version,
            "device": info.device,
            "precision": info.precision,
            "input": str(info.input_size),
            "reason": segmenter.reason,
            **{name: str(value) for name, value in info.details.items()},
        }
        if build is not None and build.failure is not None:
            status.add_problem(WARN, f"the CPU serves: the engine build failed: {build.failure}")
        elif build is not None:
            status.add_problem(WARN, "the CPU serves while the TensorRT engine is built")

    def _make(self, backend: str) -> Segmenter:
        """In the worker's thread."""
        settings = self._settings
        precision = settings.precision
        if backend == "cpu" and settings.backend != "cpu" and precision not in CPU_PRECISIONS:
            precision = "auto"  # it stands in for a GPU that was asked for fp16
        gpu: dict[str, Any] = {}
        if backend != "cpu":
            gpu = {
                "max_batch": len(settings.camera_names),
                "device": settings.device,
                "engine_file": settings.engine_file or None,
            }
        segmenter = Segmenter(settings.model, backend, precision, settings.network_size, **gpu)
        try:
            apply(settings, segmenter)
        except DeeplabError:
            segmenter.close()
            raise
        return segmenter

    def _on_swapped(self, error: Exception | None) -> None:
        """In the worker's thread."""
        if error is None:
            self._build = None
            self._log("the engine is built: TensorRT has taken over from the CPU")
        else:
            self._log(f"the engine is built but cannot be used, the CPU goes on: {error}")


def apply(settings: Settings, segmenter: Segmenter) -> None:
    """Set what may change while running.

    Raises:
        DeeplabError: the model does not know a class name, or a class would be both drivable and an
            object; nothing was changed.
    """
    labels = segmenter.model.labels.regrouped(
        settings.drivable_classes or None, settings.object_classes or None
    )
    both = [label.name for label in labels.labels if {"drivable", "objects"} <= label.groups]
    if both:
        raise ParameterError(
            f"{', '.join(both)}: drivable and an object at once; set drivable_classes and "
            "object_classes together"
        )
    segmenter.labels = labels
    segmenter.mask_size = check_mask_size(settings.mask_size)
    segmenter.confidence = settings.publish_confidence
