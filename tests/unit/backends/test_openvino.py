"""The CPU backend against ONNX Runtime on the same file, and its errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from deeplab_rt.backends.base import Backend, MaskRequest
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.errors import BackendError, FrameError, ModelError
from deeplab_rt.files import sha256_of
from deeplab_rt.frame import Frame
from deeplab_rt.models import Model, load_model
from deeplab_rt.upsample import masks_from_logits


@pytest.fixture
def backend(palette_model: Model):  # type: ignore[no-untyped-def]
    backend = OpenVINOBackend(palette_model, "fp32")
    yield backend
    backend.close()


def noise(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_meets_the_protocol(backend: OpenVINOBackend) -> None:
    assert isinstance(backend, Backend)
    assert backend.info.name == "openvino"
    assert backend.info.details["arithmetic"] == "f32"


def test_labels_equal_those_of_onnx_runtime(backend: OpenVINOBackend, palette_model: Model) -> None:
    session = onnxruntime.InferenceSession(palette_model.file("fp32"))
    for seed in range(4):
        frame = noise(seed)
        (logits,) = session.run(None, {"image": frame[None, ..., ::-1]})
        expected = masks_from_logits(logits[0], (96, 128), palette_model.labels)
        backend.submit([Frame(frame)], MaskRequest(palette_model.labels))
        (masks,) = backend.collect()
        assert (masks.labels != expected.labels).mean() < 1e-4  # logits differ in the last bit


def test_two_in_flight_come_back_in_order(backend: OpenVINOBackend, palette_model: Model) -> None:
    request = MaskRequest(palette_model.labels)
    frames = [noise(seed) for seed in range(2)]
    alone = []
    for frame in frames:
        backend.submit([Frame(frame)], request)
        alone += backend.collect()
    for frame in frames:
        backend.submit([Frame(frame)], request)
        frame[:] = 0  # the caller may reuse it at once
    for expected in alone:
        assert np.array_equal(backend.collect()[0].labels, expected.labels)


def test_too_many_in_flight_and_none(backend: OpenVINOBackend, palette_model: Model) -> None:
    with pytest.raises(BackendError, match="submit first"):
        backend.collect()
    request = MaskRequest(palette_model.labels)
    for _ in range(backend.depth):
        backend.submit([Frame(noise(0))], request)
    with pytest.raises(BackendError, match="collect first"):
        backend.submit([Frame(noise(0))], request)


def test_batches_are_single_frames(backend: OpenVINOBackend, palette_model: Model) -> None:
    with pytest.raises(FrameError, match="expected 1 to 1"):
        backend.submit([Frame(noise(0)), Frame(noise(1))], MaskRequest(palette_model.labels))


def test_read_only_and_strided_frames(backend: OpenVINOBackend, palette_model: Model) -> None:
    """Messages give read-only views, with padding at the end of rows."""
    padded = noise(3, (96, 140))
    padded.setflags(write=False)
    request = MaskRequest(palette_model.labels)
    for channels in ("bgr", "rgb"):
        backend.submit([Frame(padded[:, :128], channels=channels)], request)
        (view,) = backend.collect()
        backend.submit([Frame(padded[:, :128].copy(), channels=channels)], request)
        (copied,) = backend.collect()
        assert np.array_equal(view.labels, copied.labels)


def test_either_channel_order_gives_the_same_masks(
    backend: OpenVINOBackend, palette_model: Model
) -> None:
    """In turns, resized and not: each order has a network of its own, over the same buffers."""
    for seed, size in ((5, (96, 128)), (6, (50, 70)), (7, (96, 128))):
        frame = noise(seed, size)
        masks = []
        for channels, image in (("bgr", frame), ("rgb", frame[..., ::-1].copy())):
            backend.submit([Frame(image, channels=channels)], MaskRequest(palette_model.labels))  # type: ignore[arg-type]
            masks += backend.collect()
        assert (masks[0].labels != masks[1].labels).mean() < 1e-4
        assert masks[0].size == size


def test_close_drops_what_is_in_flight(palette_model: Model) -> None:
    backend = OpenVINOBackend(palette_model)
    backend.submit([Frame(noise(0))], MaskRequest(palette_model.labels))
    backend.close()
    backend.close()
    with pytest.raises(BackendError):
        backend.collect()


def test_unknown_precision_names_the_known_ones(palette_model: Model) -> None:
    with pytest.raises(ModelError, match="'fp8' is not one of auto, fp32, bf16, int8"):
        OpenVINOBackend(palette_model, "fp8")


def test_network_that_is_no_onnx(palette_model: Model, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(palette_model.directory, tmp_path / "broken"))
    (directory / "model.onnx").write_bytes(b"garbage")
    manifest = yaml.safe_load((directory / "model.yaml").read_text())
    manifest["files"]["fp32"]["sha256"] = sha256_of(directory / "model.onnx")
    (directory / "model.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(BackendError, match="model.onnx: OpenVINO cannot use it"):
        OpenVINOBackend(load_model(directory))


def test_network_of_another_class_count(palette_model: Model, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(palette_model.directory, tmp_path / "fewer"))
    manifest = yaml.safe_load((directory / "model.yaml").read_text())
    manifest["labels"].pop()
    (directory / "model.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(ModelError, match="11 classes, the manifest names 10 labels"):
        OpenVINOBackend(load_model(directory))


def test_cache_that_cannot_be_written_costs_nothing_but_time(
    palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "file" / "below"))
    backend = OpenVINOBackend(palette_model)
    backend.submit([Frame(noise(0))], MaskRequest(palette_model.labels))
    assert backend.collect()[0].size == (96, 128)
    backend.close()
