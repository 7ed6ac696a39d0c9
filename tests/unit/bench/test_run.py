"""One whole benchmark at sizes of a thumb, and what is printed of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt.bench import roofline
from deeplab_rt.bench.report import plot, table
from deeplab_rt.bench.run import BenchmarkConfig, bench, read_frames
from deeplab_rt.bench.runner import SamplingConfig
from deeplab_rt.errors import StreamError
from deeplab_rt.models import Model


@pytest.fixture(scope="module")
def result(palette_model: Model) -> dict[str, object]:
    # The roofline' own tests are in test_limits.py: here a short look is enough.
    patch = pytest.MonkeyPatch()
    for name in ("matrix_peaks", "copy_rates", "profile"):
        patch.setattr(roofline, name, partial(getattr(roofline, name), repeats=1))
    config = BenchmarkConfig(
        model=palette_model.directory,
        backend="cpu",
        baselines=["onnxruntime", "torch", "onnxruntime-int8"],
        frame_sizes=[(48, 64), (96, 160)],
        sampling=SamplingConfig(rounds=2, turn_s=0, least=2, settle_s=0),
    )
    figures = bench(config)
    patch.undo()
    return figures


def test_every_subject_is_measured_at_every_size(result: dict) -> None:  # type: ignore[type-arg]
    assert [size["frame_size"] for size in result["sizes"]] == [[48, 64], [96, 160]]
    for size in result["sizes"]:
        candidates = size["candidates"]
        assert next(iter(candidates)) == size["baseline"] == "deeplab_rt fp32" == size["reference"]
        assert "onnxruntime" in candidates
        for figures in candidates.values():
            assert figures["frames"] == 4
            assert figures["ms"]["min"] <= figures["ms"]["median"]
        assert candidates["deeplab_rt fp32"]["times_baseline"]["median"] == 1
        assert candidates["deeplab_rt fp32"]["agreement"] == 1
        assert candidates["onnxruntime"]["agreement"] > 0.999
        assert set(size["stream_per_second"]) == {"one_at_a_time", "overlapped"}
        assert all(rate > 0 for rate in size["stream_per_second"].values())


def test_what_cannot_be_measured_is_told(result: dict) -> None:  # type: ignore[type-arg]
    assert set(result["missing"]) == {"torch", "onnxruntime-int8"}
    assert "no int8 file" in table(result)


def test_result_is_plain_and_complete(result: dict) -> None:  # type: ignore[type-arg]
    assert json.loads(json.dumps(result)) == result
    assert result["backend"] == "openvino"
    assert result["frames"] == "street"
    assert result["roofline"]["groups"][-1]["group"] == "all"


def test_table_names_machine_sizes_and_subjects(result: dict) -> None:  # type: ignore[type-arg]
    lines = table(result).splitlines()
    assert lines[0].startswith(result["machine"]["cpu"])
    assert any(line.startswith("64x48 frame") for line in lines)
    assert any(line.startswith("160x96 frame") for line in lines)
    ours = next(line for line in lines if line.startswith("deeplab_rt fp32  "))
    median = result["sizes"][0]["candidates"]["deeplab_rt fp32"]["ms"]["median"]
    assert f"{median:.2f}" in ours
    assert "100.00%" in ours
    assert any(line.startswith("roofline measured in this run: fp32") for line in lines)


def test_plot_is_a_picture_of_every_size(result: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    plot(result, tmp_path / "bench.png")
    picture = cv2.imread(str(tmp_path / "bench.png"))
    assert picture is not None
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 4


def test_frames_are_spaced_over_the_recording(tmp_path: Path) -> None:
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), np.full((6, 8, 3), index, np.uint8))
    frames = read_frames(str(tmp_path), (12, 16))
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert {frame.shape for frame in frames} == {(12, 16, 3)}


def test_source_without_frames(tmp_path: Path) -> None:
    with pytest.raises(StreamError):
        read_frames(str(tmp_path / "nowhere"), (12, 16))
