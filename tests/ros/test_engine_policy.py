"""What ``engine_policy`` says on a machine with a GPU, and a build beside the node.

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
from deeplab_rt.errors import BackendError, EngineError, FrameError, LabelError
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model
from deeplab_rt.ros import engine_build
from deeplab_rt.ros.diagnostics import OK, WARN, Status
from deeplab_rt.ros.engine_build import EngineBuild, build_command
from deeplab_rt.ros.engine_policy import EnginePolicy
from deeplab_rt.ros.parameters import Settings
from deeplab_rt.worker import InferenceWorker


class Harness:
    """A worker and its policy, what it has logged, and which backends have made masks."""

    def __init__(self, model: Model, **parameters: Any) -> None:
        self.settings = Settings.from_values({"model": str(model.directory), **parameters})
        self.log: list[str] = []
        self.served: list[str] = []
        self.worker = InferenceWorker(1, lambda: None)
        self.policy = EnginePolicy(self.settings, self.worker, self.log.append)

    # The harness is the job of every frame.

    def load(self) -> Frame:
        return Frame(np.zeros((32, 32, 3), np.uint8))

    def deliver(self, frame: Frame, masks: Masks) -> None:
        self.served.append(self.worker.segmenter.info.name)

    def reject(self, error: FrameError) -> None:
        raise AssertionError(error)

    def discard(self) -> None:
        raise AssertionError

    def open(self) -> None:
        self.policy.open(threading.Event())

    def close(self) -> bool:
        self.policy.close()
        return self.worker.close(10)

    def serve(self) -> str:
        """The backend that serves a frame now."""
        before = len(self.served)
        self.worker.put(0, self)
        wait_for(lambda: len(self.served) > before)
        return self.served[-1]

    def status(self) -> Status:
        status = Status("engine")
        self.policy.report(status)
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
        assert one.close()
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

    monkeypatch.setattr(choice, "open_tensorrt", open_tensorrt)
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
        one.policy.open(stopping)


def test_engine_file_and_device_reach_the_backend(
    harness: Any, gpu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def open_tensorrt(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        raise EngineError("no engine in that file")

    monkeypatch.setattr(choice, "open_tensorrt", open_tensorrt)
    file = str(tmp_path / "my.engine")
    with pytest.raises(EngineError, match="no engine in that file"):  # and none is built instead
        harness(engine_file=file, device=1, engine_policy="build").open()
    assert (str(asked[0].engine_file), asked[0].device) == (file, 1)
    settings = Settings.from_values({"device": 1})
    assert build_command(settings)[-2:] == ["--device", "1"]


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
        one.policy.watch()
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
    one.policy.watch()
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
    segmenter = one.worker.segmenter
    labels = segmenter.labels
    wrong = replace(one.settings, mask_size="network", drivable_classes=("lane",))
    with pytest.raises(LabelError, match="unknown label 'lane'"):
        one.policy.apply(wrong)
    assert (segmenter.labels, segmenter.mask_size) == (labels, "input")
