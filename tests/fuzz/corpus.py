"""Sound inputs to be damaged: a model, and recordings whose every frame can be told from its masks."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from deeplab_rt.labels import LabelSet, load_label_set
from deeplab_rt.models import write_manifest
from deeplab_rt.streams.messages import COMPRESSED_IMAGE, IMAGE, typestore
from tests.conftest import write_palette_network
from tests.fuzz.outcome import Run, run_program
from tests.unit.streams.media import compressed_message, image_message, stamp_of, write_bag

FRAMES = 30
SIZE = (48, 64)


@contextmanager
def made_once(path: Path) -> Iterator[bool]:
    """Whether ``path`` has to be made; one process makes it, the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = path.with_name(f"{path.name}.done")
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()


def model(folder: Path) -> Path:
    """The directory of a real model that labels each pixel by the nearest palette colour."""
    directory = folder / "palette"
    with made_once(directory) as needed:
        if needed:
            labels = load_label_set("camvid11")
            directory.mkdir()
            write_palette_network(directory / "model.onnx", labels)
            write_manifest(
                directory,
                {
                    "name": "palette",
                    "labels": labels.to_list(),
                    "input": {"height": 96, "width": 128},
                    "files": {"fp32": {"path": "model.onnx"}},
                },
            )
    return directory


def frame(index: int, labels: LabelSet, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [H, W, 3] BGR in label colours; blocks of 8 pixels spell the index in binary."""
    height, width = size
    ids = np.full(size, labels.index("road") + 1, np.uint8)
    block = width // 8
    for bit in range(8):
        if index >> bit & 1:
            ids[height // 4 : height // 4 + block, bit * block : (bit + 1) * block] = (
                labels.index("vehicle") + 1
            )
    ids[: height // 4] = labels.index("sky") + 1
    return np.ascontiguousarray(labels.palette[ids][..., ::-1])


def frames(size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    labels = load_label_set("camvid11")
    return [frame(index, labels, size) for index in range(FRAMES)]


def _bag(storage: str, compression: str | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        messages = [image_message(image, stamp_of(i)) for i, image in enumerate(frames())]
        return write_bag(folder / "drive", {"/camera/image": messages}, storage, compression)

    return make


def _mcap(**options: Any) -> Callable[[Path], Path]:
    """An .mcap file by its own library, as recorders write it."""

    def make(folder: Path) -> Path:
        path = folder / "drive.mcap"
        messages: list[tuple[str, str, Any]] = []
        for index, image in enumerate(frames()):
            messages.append(("/camera/image", IMAGE, image_message(image, stamp_of(index))))
            small = compressed_message(image[::4, ::4], stamp_of(index), ".png")
            messages.append(("/preview/compressed", COMPRESSED_IMAGE, small))
        with path.open("wb") as stream:
            writer: Any = McapWriter(stream, **options)
            writer.start("ros2", "fuzz")
            channels: dict[str, int] = {}
            for number, (topic, kind, message) in enumerate(messages):
                if topic not in channels:
                    definition, _ = typestore().generate_msgdef(kind, ros_version=2)
                    schema = writer.register_schema(kind, "ros2msg", definition.encode())
                    channels[topic] = writer.register_channel(topic, "cdr", schema)
                data = bytes(typestore().serialize_cdr(message, kind))
                stamp = stamp_of(number // 2)
                writer.add_message(channels[topic], stamp, data, stamp, number)
            writer.finish()
        return path

    return make


def _recorded(folder: Path) -> Path:
    """A recording of this program's own: JPEG frames beside their masks."""
    from deeplab_rt.frame import Frame
    from deeplab_rt.segmenter import Segmenter
    from deeplab_rt.streams.bag_writer import BagSink

    path = folder / "drive"
    with Segmenter(str(model(folder.parent)), "cpu", "fp32") as segmenter:
        sink = BagSink(path, segmenter.labels, with_frames=True)
        for index, image in enumerate(frames()):
            one = Frame(image, index, stamp_of(index), "front_camera")
            sink.write(one, segmenter.segment(one))
        sink.close()
    return path


BAGS: dict[str, Callable[[Path], Path]] = {
    "own mcap": _recorded,
    "mcap directory": _bag("mcap", None),
    "mcap zstd": _mcap(chunk_size=40_000, compression=CompressionType.ZSTD, enable_crcs=False),
    "mcap lz4": _mcap(chunk_size=40_000, compression=CompressionType.LZ4),
    "db3": _bag("sqlite3", None),
    "db3 zstd": _bag("sqlite3", "message"),
}
TOPICS = {name: "/image/compressed" if name == "own mcap" else "/camera/image" for name in BAGS}
CHECKSUMS = ("own mcap", "mcap lz4")
"""Bags in which every byte of a frame is under a checksum."""

VIDEOS = {
    "mp4": ("libx264", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "avi": ("mjpeg", "yuvj420p"),
    "mov": ("mpeg4", "yuv420p"),
}


def bag(name: str, folder: Path) -> Path:
    """A sound bag of a kind."""
    place = folder / f"bag {name}"
    with made_once(place) as needed:
        if needed:
            place.mkdir()
            BAGS[name](place)
    return next(path for path in place.iterdir() if path.name.startswith("drive"))


def video(suffix: str, folder: Path) -> Path:
    """A sound video of a container: the frames, large enough to survive the encoder."""
    path = folder / f"drive.{suffix}"
    with made_once(path) as needed:
        if needed:
            codec, pixels = VIDEOS[suffix]
            with av.open(str(path), "w") as container:
                stream: Any = container.add_stream(codec, rate=10)
                stream.width, stream.height, stream.pix_fmt = 128, 96, pixels
                stream.bit_rate = 2_000_000
                stream.gop_size = 8
                for image in frames((96, 128)):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
                container.mux(stream.encode())
    return path


def images(folder: Path) -> dict[str, bytes]:
    """One sound image of each format that is read."""
    picture = frames((96, 128))[5]
    return {
        suffix: bytes(
            cv2.imencode(suffix, picture[..., 1] if suffix == ".pgm" else picture)[1].tobytes()
        )
        for suffix in (".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm", ".pgm")
    }


def replayed(source: Path, folder: Path, *arguments: str | Path) -> tuple[Run, list[str]]:
    """Replay an input with the corpus's model; the hash of every frame's label mask, in order."""
    out = Path("masks")
    options = ["--masks", out, "--model", model(folder), "--backend", "cpu", "--json"]
    run = run_program(["replay", source, *options, *arguments])
    masks = sorted(out.glob("*.labels.png"))
    return run, [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in masks]
