"""Source to sinks: every frame once, in order; ended by signals between two frames."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_rt import Segmenter
from deeplab_rt.errors import StreamError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks
from deeplab_rt.models import Model
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.bag_writer import BagSink
from deeplab_rt.streams.base import Recording, Stopped
from deeplab_rt.streams.folder import ImageFolder
from deeplab_rt.streams.live_camera import LiveCamera
from deeplab_rt.streams.replay import RealTime, replay, summary
from tests.unit.streams.media import HttpCamera, image_message, stamp_of, write_bag


class Collect:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[Frame, Masks]] = []
        self.closed = 0

    def write(self, frame: Frame, masks: Masks) -> None:
        self.got.append((frame, masks))

    def close(self) -> None:
        self.closed += 1


class Drawn(Recording):
    """Frames that are drawn when asked for, each in no less than a given time."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        super().__init__("drawn", count, 30.0)
        self._seconds = seconds

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.total or 0):
            time.sleep(self._seconds)
            yield Frame(np.zeros((40, 60, 3), np.uint8), index, index * 40_000_000)


@pytest.fixture
def segmenter(palette_model: Model) -> Iterator[Segmenter]:
    with Segmenter(palette_model, backend="cpu", precision="fp32") as segmenter:
        yield segmenter


@pytest.fixture
def drive(tmp_path: Path, camvid11: LabelSet) -> Path:
    """A bag in which frame i is painted in the colour of label i + 1."""
    messages = [
        image_message(np.full((40, 60, 3), camvid11.palette[i + 1][::-1], np.uint8), stamp_of(i))
        for i in range(9)
    ]
    return write_bag(tmp_path / "drive", {"/image": messages})


def test_every_frame_once_in_order_with_its_own_masks(drive: Path, segmenter: Segmenter) -> None:
    sink = Collect()
    seen = []
    with BagImages(drive) as source:
        stats, interrupted = replay(
            source, segmenter, [sink], on_frame=lambda stats: seen.append(stats.frames)
        )
    assert [frame.index for frame, _ in sink.got] == list(range(9))
    assert [int(masks.labels[20, 30]) for _, masks in sink.got] == list(range(1, 10))
    assert {masks.size for _, masks in sink.got} == {(40, 60)}
    assert not interrupted and sink.closed == 1 and seen == list(range(1, 10))
    result = summary(stats, segmenter, {"bag": drive, "overlay": Path("never begun")})
    assert result["frames"] == 9 and result["dropped"] == 0 and result["fps"] > 0
    assert result["model"] == "palette" and result["backend"] == "openvino" and result["device"]
    assert result["input"] == str(drive) and result["output"] == {"bag": str(drive)}
    stages = {"decode", "preprocess", "network", "labels", "total", "write"}
    assert set(result["latency_ms"]) == stages
    assert all(0 <= times["p50"] <= times["p99"] for times in result["latency_ms"].values())


def test_round_trip_through_a_bag(
    tmp_path: Path, drive: Path, segmenter: Segmenter, camvid11: LabelSet
) -> None:
    with BagImages(drive) as source:
        replay(source, segmenter, [BagSink(tmp_path / "masks", camvid11)])
    for topic, lut in (
        ("label_mask", np.arange(256)),
        ("drivable_mask", camvid11.drivable_lut),
        ("object_mask", camvid11.objects_lut),
    ):
        with BagImages(tmp_path / "masks", f"/deeplab/{topic}") as masks:
            frames = list(masks)
        assert [frame.stamp_ns for frame in frames] == [stamp_of(i) for i in range(9)]
        assert [frame.log_ns for frame in frames] == [stamp_of(i) + 5_000_000 for i in range(9)]
        assert {frame.frame_id for frame in frames} == {"front_camera"}
        assert [int(frame.image[20, 30, 0]) for frame in frames] == [
            int(lut[i]) for i in range(1, 10)
        ]


def test_frames_of_changing_size(tmp_path: Path, segmenter: Segmenter) -> None:
    sizes = [(1, 1), (97, 33), (480, 640), (2, 900)]
    for index, size in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((*size, 3), np.uint8))
    sink = Collect()
    with ImageFolder(tmp_path) as source:
        replay(source, segmenter, [sink])
    assert [masks.size for _, masks in sink.got] == sizes


def test_a_source_without_a_good_frame_is_an_error(tmp_path: Path, segmenter: Segmenter) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    sink = Collect()
    with (
        ImageFolder(tmp_path) as source,
        pytest.raises(StreamError, match="gave no frame: .*a.png"),
    ):
        replay(source, segmenter, [sink])
    assert sink.closed == 1


def test_a_failing_sink_ends_the_stream_and_all_are_closed(
    drive: Path, segmenter: Segmenter
) -> None:
    class Full(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            if frame.index == 3:
                raise StreamError("the disk is full")

    first, full = Collect(), Full()
    with BagImages(drive) as source, pytest.raises(StreamError, match="the disk is full"):
        replay(source, segmenter, [first, full])
    # Outputs do not wait for each other: what was handed to the first is written, in order.
    assert [frame.index for frame, _ in first.got] == list(range(len(first.got)))
    assert len(first.got) >= 4 and first.closed == full.closed == 1


def test_closing_the_viewer_is_a_good_end(drive: Path, segmenter: Segmenter) -> None:
    class Viewer(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            super().write(frame, masks)
            if frame.index == 2:
                raise Stopped

    viewer = Viewer()
    with BagImages(drive) as source:
        _, interrupted = replay(source, segmenter, [viewer])
    assert len(viewer.got) == 3 and viewer.closed == 1 and not interrupted


def test_a_segmenter_is_clean_after_a_stream_that_ended_early(
    drive: Path, segmenter: Segmenter, camvid11: LabelSet
) -> None:
    with BagImages(drive) as source:
        stats, _ = replay(source, segmenter, [], frames=2)
    assert stats.frames == 2
    image = np.full((40, 60, 3), camvid11.palette[11][::-1], np.uint8)
    assert set(np.unique(segmenter.segment(image).labels)) == {11}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_between_two_frames(segmenter: Segmenter, number: signal.Signals) -> None:
    class Slow(Collect):
        """Gets the signal in the middle of writing, and again while it closes."""

        def write(self, frame: Frame, masks: Masks) -> None:
            if frame.index == 4:
                os.kill(os.getpid(), number)
            super().write(frame, masks)

        def close(self) -> None:
            os.kill(os.getpid(), number)
            super().close()

    before = signal.getsignal(number)
    sink = Slow()
    stats, interrupted = replay(Drawn(60), segmenter, [sink])
    # What was handed over before the signal came is written whole; nothing is begun after it.
    assert interrupted and 5 <= stats.frames == len(sink.got) < 20 and sink.closed == 1
    assert signal.getsignal(number) is before


def test_in_another_thread_signals_are_left_alone(drive: Path, segmenter: Segmenter) -> None:
    before = signal.getsignal(signal.SIGINT)
    during = []
    counts = []

    def work() -> None:
        with BagImages(drive) as source:
            stats, _ = replay(
                source,
                segmenter,
                [],
                on_frame=lambda _: during.append(signal.getsignal(signal.SIGINT)),
            )
        counts.append(stats.frames)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert counts == [9] and set(during) == {before}


def test_a_camera_gives_its_newest_frame_and_the_age_of_each(segmenter: Segmenter) -> None:
    sink = Collect()
    with HttpCamera() as camera, LiveCamera(camera.url) as source:
        stats, interrupted = replay(source, segmenter, [sink], frames=10)
    assert len(sink.got) == stats.frames == 10 and not interrupted
    stages = stats.latency_ms()
    assert "age" in stages and "decode" not in stages
    assert stages["age"]["p50"] >= stages["total"]["p50"]


def test_a_camera_for_some_seconds(segmenter: Segmenter) -> None:
    with HttpCamera() as camera, LiveCamera(camera.url) as source:
        stats, _ = replay(source, segmenter, [], seconds=0.3)
    assert stats.frames > 0 and stats.elapsed_s >= 0.3


def test_a_recording_looked_at_lasts_as_long_as_it_did() -> None:
    begun = time.monotonic()
    sink = RealTime()
    empty = np.zeros((1, 1), np.uint8)
    for index, stamp_ms in enumerate([100_000, 100_050, 100_100, 900_000, 0, 50]):
        frame = Frame(np.zeros((1, 1, 3), np.uint8), index, stamp_ms * 1_000_000)
        sink.write(frame, Masks(empty, empty, empty))
    # Three steps of 50 ms; the gap and the jump back are not waited for.
    assert time.monotonic() - begun >= 0.15


def test_a_recording_looked_at_is_shown_frame_by_frame(drive: Path, segmenter: Segmenter) -> None:
    events: list[str] = []

    class Told(BagImages):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                events.append(f"read {frame.index}")
                yield frame

    class Shown(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            events.append(f"show {frame.index}")

    for sinks, shown_when_next_is_read in (([Shown(), RealTime()], True), ([Shown()], False)):
        events.clear()
        with Told(drive) as source:
            replay(source, segmenter, sinks)
        assert (events.index("show 0") < events.index("read 1")) == shown_when_next_is_read


def test_reading_and_writing_take_place_beside_each_other(segmenter: Segmenter) -> None:
    """Sleeping stands for work on cores of its own: 40 frames of 10 ms in each of three threads."""

    class Sleeping(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            time.sleep(0.01)
            super().write(frame, masks)

    sinks = {"bag": Sleeping(), "overlay": Sleeping()}
    stats, _ = replay(Drawn(40, seconds=0.01), segmenter, sinks)
    assert stats.elapsed_s < 40 * 0.03 * 0.8  # one after the other it is 40 * 0.03 s and more
    for sink in sinks.values():
        assert [frame.index for frame, _ in sink.got] == list(range(40))


@pytest.mark.parametrize("slow", ["read", "write bag"])
def test_the_summary_names_the_bottleneck(segmenter: Segmenter, slow: str) -> None:
    class Sleeping(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            time.sleep(0.03 if slow == "write bag" else 0)

    source = Drawn(20, 0.03 if slow == "read" else 0)
    stats, _ = replay(source, segmenter, {"bag": Sleeping(), "masks": Collect()})
    report = stats.report()
    assert report["bottleneck"] == slow
    assert set(report["threads"]) == {"read", "network", "write bag", "write masks"}
    assert all(0 <= share <= 1 for share in report["threads"].values())


def test_a_frame_is_counted_when_every_output_has_it(segmenter: Segmenter) -> None:
    fast, slow, seen = Collect(), Collect(), []

    class Sleeping(Collect):
        def write(self, frame: Frame, masks: Masks) -> None:
            time.sleep(0.005)
            super().write(frame, masks)

    slow = Sleeping()
    stats, _ = replay(
        Drawn(20),
        segmenter,
        [fast, slow],
        on_frame=lambda stats: seen.append(len(slow.got) >= stats.frames),
    )
    assert stats.frames == 20 and seen == [True] * 20


def test_what_a_source_raises_comes_after_the_frames_before_it(segmenter: Segmenter) -> None:
    class Broken(Drawn):
        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            raise StreamError("the rest is unreadable")

    sink = Collect()
    with pytest.raises(StreamError, match="the rest is unreadable"):
        replay(Broken(7), segmenter, [sink])
    assert [frame.index for frame, _ in sink.got] == list(range(7)) and sink.closed == 1


def test_threads_end_with_the_stream(segmenter: Segmenter) -> None:
    before = threading.active_count()
    for frames in (None, 3):
        replay(Drawn(30), segmenter, [Collect(), Collect()], frames=frames)
    assert threading.active_count() == before
