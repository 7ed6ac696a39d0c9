"""Settings of a replay."""

from __future__ import annotations

import json

from deeplab_rt.streams.base import ReadOptions, Selection
from deeplab_rt.streams.settings import ReplaySettings


def test_settings_are_the_same_before_and_after_json() -> None:
    settings = ReplaySettings(size=(96, 128), read=ReadOptions(("/a", "/b"), False, Selection(1.5)))
    content = settings.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["read"]["selection"]["start_s"] == 1.5 and content["size"] == [96, 128]
    assert content != ReplaySettings().to_dict()
