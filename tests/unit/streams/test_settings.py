"""Settings of a replay, and times as people write them."""

from __future__ import annotations

import json

import pytest

from deeplab_rt.streams.base import ReadOptions, Selection
from deeplab_rt.streams.settings import ReplaySettings, parse_time


def test_settings_are_the_same_before_and_after_json() -> None:
    settings = ReplaySettings(size=(96, 128), read=ReadOptions(("/a", "/b"), False, Selection(1.5)))
    content = settings.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["read"]["selection"]["start_s"] == 1.5 and content["size"] == [96, 128]
    assert content != ReplaySettings().to_dict()


def test_times() -> None:
    for text, seconds in (("7.5", 7.5), ("01:30", 90.0), ("1:02:03.5", 3723.5), ("0", 0.0)):
        assert parse_time(text) == seconds
    for text in ("", "x", "-1", "1:60", "1:2:3:4", "nan", "inf", "1:-2"):
        with pytest.raises(ValueError, match="expected seconds"):
            parse_time(text)
