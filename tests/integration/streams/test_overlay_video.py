"""Overlay videos: every frame in real time, tagged, playable while written and after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.streams.overlay_video import OverlayVideo


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


def playable_frames(path: Path) -> int:
    """Frames up to where the file was cut off, as a player shows them."""
    count = 0
    with av.open(str(path)) as container:
        try:
            for _ in container.decode(video=0):
                count += 1
        except av.InvalidDataError:
            pass  # the frame that the cut goes through
    return count


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


def test_gaps_and_jumps_back_are_skipped(tmp_path: Path, camvid11: LabelSet) -> None:
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
from deeplab_rt.streams.overlay_video import OverlayVideo
from tests.integration.streams.test_overlay_video import road
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


def test_a_write_that_fails_is_one_line_and_what_was_written_plays(tmp_path: Path) -> None:
    """A limit on the file's size stands for every error that shows only when writing."""
    path = tmp_path / "a.mp4"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip() == f"{path}: cannot write: File too large"
    assert os.listdir(tmp_path) == ["a.partial.mp4"]
    assert playable_frames(tmp_path / "a.partial.mp4") > 0


def test_colours_and_rate_are_told_to_players(tmp_path: Path, camvid11: LabelSet) -> None:
    video = OverlayVideo(tmp_path / "a.mp4", camvid11, fps=25.0)
    for index in range(50):
        frame = Frame(np.zeros((48, 320, 3), np.uint8), index, index * 40_000_000)
        video.write(frame, road((48, 320), camvid11))
    video.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert stream.average_rate == 25 and stream.guessed_rate == 25
        # BT.601 planes of limited range, BT.709 primaries and transfer.
        assert (context.colorspace, context.color_range) == (6, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)


def boxes(path: Path) -> list[str]:
    """Names of the top-level boxes of an .mp4, in order."""
    data, names, place = path.read_bytes(), [], 0
    while place + 8 <= len(data):
        size, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        names.append(name.decode())
        place += max(size, 8)
    return names


def test_the_index_stands_in_front(tmp_path: Path, camvid11: LabelSet) -> None:
    write(tmp_path / "a.mp4", camvid11, [0, 40, 80], (48, 320))
    names = boxes(tmp_path / "a.mp4")
    assert names.index("moov") < names.index("mdat") and "moof" not in names


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from deeplab_rt.frame import Frame
from deeplab_rt.labels import load_label_set
from deeplab_rt.streams.overlay_video import OverlayVideo
from tests.integration.streams.test_overlay_video import road
labels = load_label_set("camvid11")
video = OverlayVideo(Path(sys.argv[1]), labels)
for index in range(200):
    frame = Frame(np.full((48, 320, 3), index, np.uint8), index, index * 40_000_000)
    video.write(frame, road((48, 320), labels))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_killed_process_leaves_a_video_that_plays(
    tmp_path: Path, camvid11: LabelSet, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert done.returncode == -9 and not path.exists()
    (left,) = tmp_path.iterdir()
    assert playable_frames(left) >= 120  # of 200: at most two groups of 60 are not yet on the disk
    # The next run tells it, and takes the name.
    video = OverlayVideo(path, camvid11)
    assert video.warnings == [
        f"{left}: left by a run that was killed; it plays as far as it was written"
    ]


def clip_with_sound(path: Path, codec: str, seconds: float = 2.0) -> Path:
    """25 frames a second, and noise, in which no two packets are alike."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        images = container.add_stream("libx264", rate=25)
        images.height, images.width, images.pix_fmt = 48, 320, "yuv420p"
        sound = container.add_stream(codec, rate=44_100)
        for index in range(round(25 * seconds)):
            image = av.VideoFrame.from_ndarray(np.zeros((48, 320, 3), np.uint8), format="bgr24")
            image.pts, image.time_base = index, Fraction(1, 25)
            container.mux(images.encode(image))
        for index in range(round(44_100 * seconds) // 1024):
            samples_16 = noise.integers(-8000, 8000, (1, 1024), np.int16)
            samples = av.AudioFrame.from_ndarray(samples_16, format="s16", layout="mono")
            samples.pts, samples.sample_rate = 1024 * index, 44_100
            container.mux(sound.encode(samples))
        container.mux(images.encode())
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize(("begin_s", "end_s"), [(0.0, 2.0), (0.4, 1.4)])
def test_the_sound_of_the_clip_is_kept_in_step(
    tmp_path: Path, camvid11: LabelSet, begin_s: float, end_s: float
) -> None:
    clip = clip_with_sound(tmp_path / "clip.mp4", "aac")
    video = OverlayVideo(tmp_path / "a.mp4", camvid11, sound=clip)
    for index in range(round(25 * begin_s), round(25 * end_s)):
        frame = Frame(np.zeros((48, 320, 3), np.uint8), index, index * 40_000_000)
        video.write(frame, road((48, 320), camvid11))
    video.close()
    assert video.warnings == []
    with av.open(str(tmp_path / "a.mp4")) as container, av.open(str(clip)) as source:
        kept = [bytes(packet) for packet in container.demux(audio=0) if packet.pts is not None]
        original = {
            bytes(packet): float(packet.pts * packet.time_base)
            for packet in source.demux(audio=0)
            if packet.pts is not None
        }
        times = [original[packet] for packet in kept]
    assert times == sorted(times)
    assert times[0] - begin_s < 0.05 and end_s - times[-1] < 0.1
    assert begin_s <= times[0] and times[-1] < end_s


def test_sound_that_cannot_be_copied_is_told(tmp_path: Path, camvid11: LabelSet) -> None:
    clip = clip_with_sound(tmp_path / "clip.mkv", "pcm_s16le")
    video = OverlayVideo(tmp_path / "a.mp4", camvid11, sound=clip)
    video.write(Frame(np.zeros((48, 320, 3), np.uint8)), road((48, 320), camvid11))
    video.close()
    assert len(times_ms(tmp_path / "a.mp4")) == 1
    (warning,) = video.warnings
    assert "without the sound" in warning and "pcm_s16le" in warning
