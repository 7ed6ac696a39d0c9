"""Messages without ROS."""

from __future__ import annotations

from deeplab_rt.streams.messages import IMAGE, LABEL_INFO, header, stamp_ns, typestore
from tests.unit.streams.media import START_NS, numbered_messages


def test_types_hash_as_those_of_ros() -> None:
    """REP 2011 type hashes, as the packages' own generated code holds them."""
    assert typestore().hash_rihs01(LABEL_INFO) == (
        "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"
    )
    assert typestore().hash_rihs01(IMAGE) == (
        "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    )


def test_stamps_keep_every_nanosecond() -> None:
    message = numbered_messages(1)[0]
    for stamp in (0, 1, 999_999_999, START_NS, -1):
        message.header = header(stamp, "")
        data = typestore().serialize_cdr(message, IMAGE)
        assert stamp_ns(typestore().deserialize_cdr(data, IMAGE)) == stamp
