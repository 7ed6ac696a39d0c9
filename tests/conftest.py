"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.models import Model, write_manifest

# OpenCV reads FFmpeg's level at the first opening of a video in the process, which here may be a
# test's own look at a result, and not the package's, which sets it.
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never touch the user's cache of compiled engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPLAB_RT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def camvid11() -> LabelSet:
    return load_label_set("camvid11")


@pytest.fixture(scope="session")
def camvid_val() -> Path:
    """The CamVid validation split (images/, labels/)."""
    path = SHARED_DATA / "camvid_val"
    if not path.is_dir():
        pytest.skip(f"the CamVid validation frames are not at {path}")
    return path


@pytest.fixture(scope="session")
def highway_clip() -> Path:
    """A real drive, 960x540, 221 frames at 25 Hz."""
    path = SHARED_DATA / "clips" / "highway_960x540_25fps.mp4"
    if not path.is_file():
        pytest.skip(f"the highway clip is not at {path}")
    return path


@pytest.fixture(scope="session")
def palette_model(tmp_path_factory: pytest.TempPathFactory, camvid11: LabelSet) -> Model:
    """A real model in the ONNX contract that labels each pixel by the nearest palette colour.

    On a picture painted in label colours (``painted``) its labels are known exactly, which makes
    it the model of every test that is about the path of a frame and not about learning.
    """
    directory = tmp_path_factory.mktemp("models") / "palette"
    directory.mkdir()
    write_palette_network(directory / "model.onnx", camvid11)
    return write_manifest(
        directory,
        {
            "name": "palette",
            "labels": camvid11.to_list(),
            "input": {"height": 96, "width": 128},
            "files": {"fp32": {"path": "model.onnx"}},
        },
    )


def write_palette_network(path: Path, labels: LabelSet) -> None:
    """logits_k = 2 c_k . x - |c_k|^2, largest for the nearest colour c_k, at stride 4."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    colors = labels.palette[1 : len(labels) + 1].astype(np.float32) / 255
    weights = {
        "scale": np.float32(1 / 255),
        "weight": (2 * colors).reshape(len(labels), 3, 1, 1),
        "bias": -(colors**2).sum(axis=1),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "palette",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["n", len(labels), "h4", "w4"]
            )
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture(scope="session")
def painted(camvid11: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """A BGR picture [96, 128, 3] in label colours and its labels [96, 128]: sky, road, a vehicle."""
    labels = np.full((96, 128), camvid11.index("road") + 1, np.uint8)
    labels[:40] = camvid11.index("sky") + 1
    labels[48:72, 32:64] = camvid11.index("vehicle") + 1
    return np.ascontiguousarray(camvid11.palette[labels][..., ::-1]), labels
