"""``deeplab_rt replay``, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from deeplab_rt.commands import main
from deeplab_rt.labels import LabelSet
from deeplab_rt.models import Model
from deeplab_rt.streams.bag_reader import BagImages
from deeplab_rt.streams.messages import typestore
from tests.unit.streams.media import image_message, stamp_of, write_bag, write_video


@pytest.fixture
def drive(tmp_path: Path, camvid11: LabelSet) -> Path:
    """A bag of nine frames: frame i is painted in the colour of label i + 1."""
    messages = [
        image_message(np.full((40, 60, 3), camvid11.palette[i + 1][::-1], np.uint8), stamp_of(i))
        for i in range(9)
    ]
    return write_bag(tmp_path / "drive", {"/image": messages})


@pytest.fixture
def program(palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command with its model; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    return ["replay", "--model", str(palette_model.directory), "--backend", "cpu"]


def test_masks_bag_pictures_and_video_in_one_run(
    program: list[str], drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["-o", "out.mcap", "--masks", "pictures", "--overlay", "out.mp4"]
    assert main([*program, str(drive), *outputs, "--json"]) == 0
    out, err = capsys.readouterr()
    result: dict[str, Any] = json.loads(out)
    assert err == ""
    assert result["frames"] == 9 and result["dropped"] == 0 and result["fps"] > 0
    assert result["model"] == "palette" and result["backend"] == "openvino"
    assert result["device"] and result["input"] == str(drive) and result["warnings"] == []
    assert result["output"] == {"bag": "out.mcap", "masks": "pictures", "overlay": "out.mp4"}
    assert {"p50", "p99"} == set(result["latency_ms"]["network"])
    with BagImages(Path("out.mcap"), "/deeplab/label_mask") as source:
        frames = list(source)
    assert [int(frame.image[20, 30, 0]) for frame in frames] == list(range(1, 10))
    assert [frame.stamp_ns for frame in frames] == [stamp_of(index) for index in range(9)]
    for index in range(9):
        picture = cv2.imread(f"pictures/{index:06d}.labels.png", cv2.IMREAD_UNCHANGED)
        assert picture.shape == (40, 60) and picture[20, 30] == index + 1
    with av.open("out.mp4") as video:
        assert len(list(video.decode(video=0))) == 9


def test_without_an_output_the_bag_is_named_after_the_input(
    program: list[str], drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*program, str(drive)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("9 frames, 0 dropped, ") and "bag: drive_masks\n" in out
    assert Path("drive_masks/metadata.yaml").is_file()
    assert main([*program, str(drive)]) == 1
    expected = "deeplab_rt replay: drive_masks: exists already; give another name, or --overwrite"
    assert capsys.readouterr().err.startswith(expected)
    assert main([*program, str(drive), "--overwrite"]) == 0


def test_video_and_image_folder_one_after_the_other(program: list[str], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "left.png"), np.zeros((9, 9, 3), np.uint8))
    assert main([*program, "a.mp4", "images", "--masks", "out"]) == 0
    stems = {name.split(".")[0] for name in os.listdir("out") if name.endswith(".png")}
    assert stems == {"000000", "000001", "000002", "000003", "000004", "left"}


def test_frames_that_cannot_be_decoded_are_told(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    assert main([*program, "images", "-o", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dropped"] == 1 and len(json.loads(out)["warnings"]) == 1
    assert err.startswith("deeplab_rt replay: warning: images: frame 1 skipped: b.png")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope.mp4"], "nope.mp4: no such input; expected"),
        (["drive", "--topic", "/nope"], "topic /nope is not in it; image topics: /image"),
        (["drive", "-o", "drive", "--overwrite"], "drive: is the input drive"),
        (["drive", "-o", "drive/drive.mcap", "--overwrite"], "drive.mcap: is the input drive"),
        (["drive", "--masks", "drive", "--overwrite"], "drive: is the input drive"),
        (["drive", "--overlay", "drive/a.mp4", "--overwrite"], "lies inside the input drive"),
        (["drive/drive.mcap", "-o", "drive", "--overwrite"], "drive: holds the input"),
        (["drive", "-o", "nope/out"], "nope/out: there is no folder nope"),
        (["drive", "--overlay", "out.gif"], "out.gif: expected a name that ends in .mp4"),
        (["drive", "--model", "nope"], "no model 'nope'"),
    ],
)
def test_one_clear_line_and_nothing_written(
    program: list[str],
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert main([*program, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["replay"])
    assert exit_.value.code == 2
    assert "INPUT" in capsys.readouterr().err


def test_ctrl_c_leaves_a_whole_bag(program: list[str], tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", 1000, size=(480, 640))
    command = [sys.executable, "-m", "deeplab_rt", *program, "long.mp4", "-o", "out", "--json"]
    root = str(Path(__file__).resolve().parents[3])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        deadline = time.monotonic() + 60
        bag = tmp_path / "out" / "out_0.mcap"
        while not (bag.is_file() and bag.stat().st_size > 5_000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    frames = json.loads(out)["frames"]
    assert 0 < frames < 1000
    with BagImages(tmp_path / "out", "/deeplab/label_mask") as source:
        assert source.total == frames and source.warnings == []
        assert len(list(source)) == frames


def test_real_drive(program: list[str], highway_clip: Path) -> None:
    assert main([*program, str(highway_clip), "-o", "out"]) == 0
    with BagImages(Path("out"), "/deeplab/drivable_mask") as source:
        stamps = [frame.stamp_ns for frame in source]
    assert stamps == [index * 40_000_000 for index in range(221)]


def two_cameras(path: Path, camvid11: LabelSet) -> Path:
    """Front and rear cameras with a camera_info each, and a topic of something else."""
    messages: dict[str, list[Any]] = {"/tf_text": []}
    for camera, shift in (("front", 1), ("rear", 5)):
        messages[f"/{camera}/image_raw"] = [
            image_message(
                np.full((40, 60, 3), camvid11.palette[i + shift][::-1], np.uint8),
                stamp_of(i),
                frame_id=camera,
            )
            for i in range(4)
        ]
    text = typestore().types["std_msgs/msg/String"]
    messages["/tf_text"] = [text(data=f"message {index}") for index in range(6)]
    return write_bag(path, messages)


def labels_of(bag: str, topic: str) -> list[tuple[int, str, int]]:
    with BagImages(Path(bag), topic) as source:
        return [(f.stamp_ns, f.frame_id, int(f.image[20, 30, 0])) for f in source]


@pytest.mark.parametrize(
    "topics", [["--all-topics"], ["--topic", "/front/image_raw", "--topic", "/rear/image_raw"]]
)
def test_several_cameras_in_one_pass(
    program: list[str], tmp_path: Path, camvid11: LabelSet, topics: list[str]
) -> None:
    two_cameras(tmp_path / "drive2", camvid11)
    arguments = ["drive2", *topics, "-o", "out", "--masks", "png", "--confidence"]
    assert main([*program, *arguments]) == 0
    for camera, shift in (("front", 1), ("rear", 5)):
        expected = [(stamp_of(i), camera, i + shift) for i in range(4)]
        assert labels_of("out", f"/deeplab/{camera}/image_raw/label_mask") == expected
        confidence = labels_of("out", f"/deeplab/{camera}/image_raw/confidence")
        assert len(confidence) == 4
    names = os.listdir("png")
    assert len([name for name in names if name.startswith("rear_image_raw.")]) == 4 * 4


def test_with_the_input_the_bag_holds_everything(
    program: list[str], tmp_path: Path, camvid11: LabelSet
) -> None:
    two_cameras(tmp_path / "drive2", camvid11)
    arguments = ["drive2", "--topic", "/front/image_raw", "--with-input", "--out-dir", "out"]
    assert main([*program, *arguments]) == 0
    with Reader(tmp_path / "drive2") as before, Reader(tmp_path / "out" / "drive2.mcap") as after:
        original = [(c.topic, ns, bytes(data)) for c, ns, data in before.messages()]
        copied = [
            (c.topic, ns, bytes(data))
            for c, ns, data in after.messages()
            if not c.topic.startswith("/deeplab/")
        ]
        masks = [c.topic for c, _, _ in after.messages() if c.topic == "/deeplab/label_mask"]
    assert sorted(copied) == sorted(original) and len(masks) == 4


def test_a_video_of_several_cameras_is_refused(
    program: list[str], tmp_path: Path, camvid11: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    two_cameras(tmp_path / "drive2", camvid11)
    assert main([*program, "drive2", "--all-topics", "--overlay", "a.mp4"]) == 1
    assert "an overlay video shows one camera; choose one" in capsys.readouterr().err


def test_the_overlay_as_it_is_asked_for(program: list[str], drive: Path) -> None:
    images = {}
    for name, options in (
        ("plain", []),
        ("clear", ["--alpha", "0"]),
        ("beside", ["--alpha", "0", "--side-by-side"]),
        ("drivable", ["--only", "drivable", "--alpha", "0.9"]),
    ):
        assert main([*program, str(drive), "--overlay", f"{name}.mp4", *options]) == 0
        with av.open(f"{name}.mp4") as video:
            images[name] = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    # The frames are painted in the colours of their labels: their overlays look the same.
    for plain, clear, beside in zip(
        images["plain"], images["clear"], images["beside"], strict=True
    ):
        assert np.abs(plain[:40, :60].astype(int) - clear[:40, :60]).max() < 12
        assert np.abs(beside[:38, :56].astype(int) - beside[:38, 60:116]).max() < 12
    assert len(images["drivable"]) == 9


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [(["--from", "0.1", "--to", "0.2"], 3), (["--every", "4"], 3), (["--from", "0:00"], 9)],
)
def test_a_part_of_a_recording(
    program: list[str], drive: Path, arguments: list[str], frames: int
) -> None:
    assert main([*program, str(drive), "-o", "out.mcap", *arguments]) == 0
    with BagImages(Path("out.mcap"), "/deeplab/label_mask") as source:
        assert len(list(source)) == frames


def test_images_of_one_name_are_refused_before_the_first_frame(
    program: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((9, 9, 3), np.uint8))
    assert main([*program, "one", "two", "--masks", "out"]) == 1
    assert "out: 2 images are named 'a'" in capsys.readouterr().err and not Path("out").exists()
    assert main([*program, "one", "two", "--masks", "--out-dir", "all"]) == 0
    assert {path.name for path in Path("all/two").iterdir()} == {
        "classes.json",
        "a.labels.png",
        "a.drivable.png",
        "a.objects.png",
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["drive", "--keep-going"], "--keep-going needs --out-dir DIR"),
        (["drive", "--jobs", "2"], "--jobs needs --out-dir DIR"),
        (["drive", "--masks"], "--masks needs a name"),
        (["drive", "--out-dir", "x", "--masks", "y"], "--masks takes no name"),
        (["drive", "--out-dir", "x", "-o", "y"], "-o has no place beside --out-dir"),
        (["drive", "--out-dir", "x", "--no-bag"], "--no-bag leaves nothing"),
        (["drive", "--from", "5", "--to", "4"], "--to 4 s is not after --from 5 s"),
        (["drive", "--every", "0"], "'0' is not a count"),
        (["drive", "--alpha", "2"], "'2' is not a weight"),
        (["drive", "--shard", "3/2"], "'3/2' is not a shard"),
        (["drive", "--topic", "/a", "--all-topics"], "give one of them"),
        (["a", "b", "--with-input"], "--with-input takes one INPUT"),
        ([], "name an INPUT"),
    ],
)
def test_options_that_would_be_ignored_are_wrong_usage(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["replay", *arguments])
    assert exit_.value.code == 2 and line in capsys.readouterr().err
