"""The node's engine: the policies of a machine with a GPU, and a build beside the node.

The GPU is played: where TensorRT would be opened stands ``FakeGpu``, which runs on the CPU once its
"engine" is there. The processes that build it, or fail to, are real.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplab_rt.backends import choice
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.backends.tensorrt import probe
from deeplab_rt.errors import BackendError, EngineError, LabelError
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.models import Model
from deeplab_rt.ros import engine_build
from deeplab_rt.ros.diagnostics import OK, WARN, Status
from deeplab_rt.ros.engine import Engine
from deeplab_rt.ros.engine_build import EngineBuild, build_command
from deeplab_rt.ros.parameters import Settings


class Harness:
    """An engine, what it has logged, and the masks that it has made."""

    def __init__(self, model: Model, **parameters: Any) -> None:
        self.settings = Settings.from_values({"model": str(model.directory), **parameters})
        self.log: list[str] = []
        self.served: list[str] = []
        self.failed = threading.Event()
        self.frames: LatestFrameBuffer[np.ndarray] = LatestFrameBuffer(1)
        self.engine: Engine[np.ndarray] = Engine(
            self.settings, self.frames, self._process, self.failed.set, self.log.append
        )

    def _process(self, segmenter: Any, taken: Any) -> None:
        segmenter.segment_batch([frame for _, frame in taken])
        self.served.append(segmenter.info.name)

    def open(self) -> None:
        self.engine.open(threading.Event())

    def serve(self) -> str:
        """The backend that serves a frame now."""
        before = len(self.served)
        self.frames.put(0, np.zeros((32, 32, 3), np.uint8))
        wait_for(lambda: len(self.served) > before)
        return self.served[-1]

    def status(self) -> Status:
        status = Status("engine")
        self.engine.report(status)
        return status


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def harness(palette_model: Model) -> Iterator[Any]:
    made: list[Harness] = []

    def make(**parameters: Any) -> Harness:
        made.append(Harness(palette_model, **parameters))
        return made[-1]

    yield make
    for one in made:
        assert one.engine.close(10)
    assert not [t.name for t in threading.enumerate() if t.name in ("inference", "engine build")]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a GPU, and the engine file that it lacks."""
    engine = tmp_path / "engine"

    def open_tensorrt(model: Model, precision: str, *arguments: Any) -> Any:
        if not engine.is_file():
            raise EngineError("no engine for this GPU; run `deeplab_rt build`")
        backend = OpenVINOBackend(model)
        backend.info = replace(backend.info, name="tensorrt")
        return backend, "it has an engine"

    monkeypatch.setattr(choice, "_open_tensorrt", open_tensorrt)
    return engine


def build_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(engine_build, "build_command", lambda settings: command)


def test_machine_without_gpu(harness: Any) -> None:
    one = harness()
    one.open()
    assert one.serve() == "openvino"
    assert one.status().level == OK
    assert "TensorRT cannot run here" in one.status().values["reason"]
    # In a process where other tests loaded the double of libcuda.so.1 there is a driver without a GPU.
    lacks = probe.machine_lacks()
    assert lacks is not None
    with pytest.raises(BackendError, match=re.escape(lacks)):
        harness(backend="tensorrt", engine_policy="build").open()


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_missing_engine_is_required(harness: Any, gpu: Path, backend: str) -> None:
    with pytest.raises(EngineError, match="run `deeplab_rt build`"):
        harness(backend=backend).open()
    gpu.touch()
    one = harness(backend=backend)
    one.open()
    assert one.serve() == "tensorrt"


def test_missing_engine_is_built_first(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_with(monkeypatch, f"print('10 %'); open({str(gpu)!r}, 'w')")
    one = harness(engine_policy="build")
    one.open()
    assert one.serve() == "tensorrt"
    assert one.status().level == OK
    assert "run `deeplab_rt build`; building it now" in one.log[0]
    assert "engine build: 10 %" in one.log


def test_build_that_fails_says_its_last_words(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_with(monkeypatch, "print('10 %'); raise SystemExit('out of memory')")
    with pytest.raises(EngineError, match="the engine build failed: out of memory"):
        harness(engine_policy="build").open()


def test_wait_for_a_build_ends_when_the_node_does(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_with(monkeypatch, "import time; print('10 %', flush=True); time.sleep(1000)")
    one = harness(engine_policy="build")
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(BackendError, match="stopped while the engine was built"):
        one.engine.open(stopping)


def test_cpu_serves_until_the_engine_is_built(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    build_with(
        monkeypatch,
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\n"
        f"open({str(gpu)!r}, 'w')",
    )
    one = harness(engine_policy="cpu_while_building", precision="fp16")
    one.open()
    assert one.serve() == "openvino"
    assert one.status().level == WARN
    assert one.status().message == "the CPU serves while the TensorRT engine is built"
    gate.touch()

    def taken_over() -> bool:
        one.engine.watch()
        return bool(one.serve() == "tensorrt")

    wait_for(taken_over)
    wait_for(lambda: "the engine is built: TensorRT has taken over from the CPU" in one.log)
    assert one.status().level == OK


def test_cpu_goes_on_when_the_build_fails(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_with(monkeypatch, "raise SystemExit('out of memory')")
    one = harness(engine_policy="cpu_while_building")
    one.open()
    wait_for(lambda: "engine build failed: out of memory" in one.status().message)
    one.engine.watch()
    assert one.serve() == "openvino"
    assert one.status().level == WARN


def test_real_build_without_a_gpu_fails_in_words(palette_model: Model) -> None:
    lines: list[str] = []
    settings = Settings.from_values({"model": str(palette_model.directory), "input_size": "64x32"})
    assert build_command(settings)[-2:] == ["--size", "64x32"]
    build = EngineBuild(settings, lines.append)
    wait_for(lambda: not build.running)
    assert build.failure is not None and build.failure.startswith("deeplab_rt build:")
    assert f"engine build: {build.failure}" in lines


def test_settings_apply_together_or_not_at_all(harness: Any) -> None:
    one = harness()
    one.open()
    labels = one.engine.segmenter.labels
    wrong = replace(one.settings, mask_size="network", drivable_classes=("lane",))
    with pytest.raises(LabelError, match="unknown label 'lane'"):
        one.engine.apply(wrong)
    assert (one.engine.segmenter.labels, one.engine.segmenter.mask_size) == (labels, "input")


def test_failure_is_told_once_and_kept(harness: Any) -> None:
    one = harness()
    one.open()
    one.frames.put(0, np.zeros((4, 4), np.uint8))  # not a picture
    assert one.failed.wait(10)
    assert "expected uint8" in str(one.engine.failure)
    assert "the backend failed" in one.status().message
    with pytest.raises(BackendError, match="the inference thread ended"):
        one.open()
