"""The CPU backend against ONNX Runtime on the same file, and its errors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from deeplab_rt.backends import openvino as openvino_module
from deeplab_rt.backends.base import Backend, MaskRequest
from deeplab_rt.backends.openvino import OpenVINOBackend
from deeplab_rt.errors import BackendError, FrameError, ModelError
from deeplab_rt.files import sha256_of
from deeplab_rt.frame import Frame
from deeplab_rt.input_shape import shape_for
from deeplab_rt.models import Model, load_model, write_manifest
from deeplab_rt.upsample import masks_from_logits
from tests.integration.tensorrt.typed_networks import reshape as spoil


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


# ---- The network's input follows the frame's shape -------------------------------------------------


def test_each_camera_size_has_a_network_of_its_shape_compiled_once(
    palette_model: Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    real = openvino_module.compile_network

    def counted(model: Model, precision: str, size: Any, *rest: Any) -> Any:
        compiled.append(tuple(size))
        return real(model, precision, size, *rest)

    monkeypatch.setattr(openvino_module, "compile_network", counted)
    caplog.set_level("INFO")
    backend = OpenVINOBackend(palette_model, "fp32")
    request = MaskRequest(palette_model.labels, "network")
    sizes = [(96, 128), (300, 100), (480, 640), (100, 300)]
    for _ in range(3):
        for size in sizes:
            backend.submit([Frame(noise(1, size))], request)
            (masks,) = backend.collect()
            assert masks.size == shape_for(size, (96, 128))
    assert compiled == [(96, 128), (192, 64), (64, 192)]
    assert backend.info.details["input"] == (
        "follows the frame's shape; 128x96 for 128x96; 64x192 for 100x300; 128x96 for 640x480; "
        "192x64 for 300x100"
    )
    told = [r.message for r in caplog.records if "the network's input is" in r.message]
    assert told == [
        "frames of 100x300: the network's input is 64x192",
        "frames of 300x100: the network's input is 192x64",
    ]
    backend.close()


def test_masks_are_those_of_a_network_of_that_size(palette_model: Model) -> None:
    frame = Frame(noise(2, (100, 300)))
    masks = []
    for size in (None, (64, 192)):
        backend = OpenVINOBackend(palette_model, "fp32", size)
        backend.submit([frame], MaskRequest(palette_model.labels))
        masks += backend.collect()
        backend.close()
    assert np.array_equal(masks[0].labels, masks[1].labels)


def test_a_folder_of_images_of_all_shapes_does_not_pile_up_networks(palette_model: Model) -> None:
    model = replace(palette_model, input_size=(192, 256))  # room for more shapes
    backend, request = OpenVINOBackend(model, "fp32"), MaskRequest(model.labels, "network")
    shapes = set()
    for width in range(20, 400, 20):
        backend.submit([Frame(noise(1, (100, width)))], request)
        shapes.add(backend.collect()[0].size)
    assert len(shapes) == openvino_module.MOST_SHAPES
    backend.close()


# ---- What is refused before it is compiled ----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("scalar", r"outputs float32 \[\]; expected one uint8"),
        ("stride", r"at an input of 128x96 the logits are \[1, 11, 12, 16\].*a stride of 4"),
        ("classes", "the network gives 7 classes, the manifest names 11 labels"),
        ("float input", r"inputs are float32 .*expected one uint8"),
    ],
)
def test_a_network_out_of_the_contract(
    palette_model: Model, tmp_path: Path, change: str, message: str
) -> None:
    """A scalar output used to end the process with a segmentation fault."""
    network = onnx.load(palette_model.file("fp32"))
    if change == "float input":
        network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    else:
        spoil(network, change)
    onnx.save(network, tmp_path / "model.onnx")
    manifest = {**palette_model.manifest, "files": {"fp32": {"path": "model.onnx"}}}
    with pytest.raises(ModelError, match=message) as caught:
        OpenVINOBackend(write_manifest(tmp_path, manifest))
    assert "\n" not in str(caught.value)


# ---- The cache --------------------------------------------------------------------------------------


def blobs(cache: Path) -> list[Path]:
    return sorted((cache / "openvino").glob("*.blob"))


def labels_of(model: Model, frame: np.ndarray) -> np.ndarray:
    backend = OpenVINOBackend(model, "fp32")
    backend.submit([Frame(frame)], MaskRequest(model.labels))
    (masks,) = backend.collect()
    backend.close()
    return masks.labels


def test_a_damaged_cache_never_gives_other_masks(
    palette_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    frame = noise(4)
    expected = labels_of(palette_model, frame)
    (blob,) = blobs(tmp_path)
    assert blob.stat().st_mode & 0o777 == 0o600
    whole = blob.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(24):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[rng.integers(1, len(whole)) :]
        else:
            damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        blob.write_bytes(damaged)
        caplog.clear()
        assert np.array_equal(labels_of(palette_model, frame), expected)
        assert "is damaged, compiling anew" in caplog.text
        assert blob.read_bytes() != bytes(damaged), "it is written anew"


def test_a_whole_cache_is_loaded(
    palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    expected = labels_of(palette_model, noise(4))
    written = blobs(tmp_path)[0].stat().st_mtime_ns

    def not_again(network: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino_module, "swap_channels", not_again)
    assert np.array_equal(labels_of(palette_model, noise(4)), expected)
    assert blobs(tmp_path)[0].stat().st_mtime_ns == written


def test_a_cache_that_others_can_write_is_not_read(
    palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino").chmod(0o777)
    assert labels_of(palette_model, noise(4)).all()
    assert blobs(tmp_path) == []
