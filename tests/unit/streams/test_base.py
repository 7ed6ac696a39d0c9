"""What sources share."""

from __future__ import annotations

from deeplab_rt.streams.base import Recording, natural_key


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["frame10.png", "frame9.png", "10.png", "9.png", "a1b10", "a1b9"]
    assert sorted(names, key=natural_key) == [
        "9.png",
        "10.png",
        "a1b9",
        "a1b10",
        "frame9.png",
        "frame10.png",
    ]


def test_many_skipped_frames_are_counted_but_not_each_told() -> None:
    recording = Recording("drive", None, None)
    for index in range(1000):
        recording.skip(index, "damaged")
    assert recording.dropped == 1000
    assert recording.warnings[0] == "drive: frame 0 skipped: damaged"
    assert len(recording.warnings) == Recording.SHOWN + 1
