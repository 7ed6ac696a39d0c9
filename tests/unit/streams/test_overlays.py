"""Overlay videos and their legend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.overlays import OverlayVideo, frame_overlay, legend


def road(size: tuple[int, int], labels: LabelSet) -> Masks:
    road_id = labels.index("road") + 1
    every = np.full(size, road_id, np.uint8)
    return Masks(every, np.full(size, 255, np.uint8), np.zeros(size, np.uint8))


def write(path: Path, labels: LabelSet, stamps_ms: list[int], size: tuple[int, int]) -> None:
    video = OverlayVideo(path, labels)
    for index, stamp in enumerate(stamps_ms):
        frame = Frame(np.zeros((*size, 3), np.uint8), index, stamp * 1_000_000)
        video.write(frame, road(size, labels))
    video.close()


def times_ms(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [round(1000 * frame.time) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("size", [(48, 640), (47, 321), (1, 1)])
def test_every_frame_is_in_the_video_at_any_size(
    tmp_path: Path, camvid11: LabelSet, suffix: str, size: tuple[int, int]
) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, camvid11, [0, 40, 80, 120], size)
    assert os.listdir(tmp_path) == [path.name]
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    expected = np.array(camvid11.palette[camvid11.index("road") + 1][::-1], float) / 2
    # Where the picture is wide enough, chroma at half resolution leaves its middle alone.
    if size[0] > 1:
        middle = frames[2][size[0] // 2, size[1] // 2]
        assert np.abs(middle - expected).max() < 8


def test_time_is_that_of_the_stamps(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "a.mp4", camvid11, [5000, 5033, 5100, 6000], (32, 320))
    assert times_ms(tmp_path / "a.mp4") == [0, 33, 100, 1000]


def test_gaps_and_jumps_back_are_not_sat_through(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "a.mp4", camvid11, [0, 50, 900_000, 10, 60], (32, 320))
    assert times_ms(tmp_path / "a.mp4") == [0, 50, 100, 150, 200]


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path: Path, camvid11: LabelSet) -> None:
    video = OverlayVideo(tmp_path / "a.mp4", camvid11)
    for index, size in enumerate([(64, 320), (128, 640), (20, 30)]):
        frame = Frame(np.zeros((*size, 3), np.uint8), index, index * 40_000_000)
        video.write(frame, road(size, camvid11))
    video.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        sizes = {(frame.height, frame.width) for frame in container.decode(video=0)}
    assert len(sizes) == 1 and next(iter(sizes))[1] == 320


def test_rgb_frames_keep_their_colours(camvid11: LabelSet) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    picture = frame_overlay(Frame(red, 0, 0, channels="rgb"), road((8, 8), camvid11), camvid11, 0.0)
    assert (picture == (0, 0, 200)).all()


def test_legend_shows_every_colour_and_fits_its_width(camvid11: LabelSet) -> None:
    wide, narrow = legend(camvid11, 2000), legend(camvid11, 320)
    assert wide.shape[1] == 2000 and narrow.shape[1] == 320
    assert narrow.shape[0] > wide.shape[0]
    for strip in (wide, narrow):
        colours = {tuple(color) for color in strip.reshape(-1, 3)[:, ::-1].tolist()}
        assert {label.color for label in camvid11.labels} <= colours


def test_names_that_are_refused(tmp_path: Path, camvid11: LabelSet) -> None:
    with pytest.raises(StreamError, match=r"ends in \.mp4"):
        OverlayVideo(tmp_path / "a.avi", camvid11)
    write(tmp_path / "a.mp4", camvid11, [0], (32, 32))
    with pytest.raises(StreamError, match="exists already"):
        OverlayVideo(tmp_path / "a.mp4", camvid11)


def test_a_half_written_video_never_has_the_name(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "a.mp4", camvid11, [0, 40], (32, 320))
    before = (tmp_path / "a.mp4").read_bytes()
    video = OverlayVideo(tmp_path / "a.mp4", camvid11, overwrite=True)
    video.write(Frame(np.zeros((32, 320, 3), np.uint8), 0, 0), road((32, 320), camvid11))
    assert (tmp_path / "a.mp4").read_bytes() == before
    video.close()
    assert len(times_ms(tmp_path / "a.mp4")) == 1
    assert os.listdir(tmp_path) == ["a.mp4"]


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from deeplab_rt.errors import StreamError
from deeplab_rt.labels import load_label_set
from deeplab_rt.frame import Frame
from deeplab_rt.streams.overlays import OverlayVideo
from tests.unit.streams.test_overlays import road
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
labels = load_label_set("camvid11")
video = OverlayVideo(Path(sys.argv[1]), labels)
noise = np.random.default_rng(0)
try:
    for index in range(200):
        image = noise.integers(0, 255, (240, 320, 3), np.uint8)
        video.write(Frame(image, index, index * 40_000_000), road((240, 320), labels))
    video.close()
except StreamError as error:
    try:
        video.close()
    except StreamError:
        pass
    sys.exit(str(error))
"""


def test_a_write_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the file's size stands for every error that shows only when writing."""
    path = tmp_path / "a.mp4"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip() == f"{path}: cannot write: File too large"
    assert os.listdir(tmp_path) == []
