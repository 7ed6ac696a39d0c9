"""Parameters: bounds, what goes together, and the table of the documentation."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deeplab_rt.ros.parameters import ParameterError, Settings, changed, markdown_table

ROOT = Path(__file__).parents[2]


def test_defaults_are_good() -> None:
    settings = Settings.from_values({})
    assert settings == Settings()
    assert settings.network_size is None


def test_values_are_taken() -> None:
    settings = Settings.from_values(
        {"input_size": "640x480", "cameras": ["front", "rear"], "drivable_classes": [""]}
    )
    assert settings.network_size == (480, 640)
    assert settings.cameras == ("front", "rear")
    assert settings.drivable_classes == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"backend": "gpu"}, "backend is 'gpu', expected one of: auto, cpu, tensorrt"),
        ({"max_age_ms": -1.0}, "max_age_ms is -1.0, expected 0.0 to 60000.0"),
        ({"max_age_ms": math.nan}, "max_age_ms is nan"),
        ({"overlay_alpha": math.inf}, "overlay_alpha is inf"),
        ({"input_size": "640"}, "expected WxH"),
        ({"input_size": "640x480 "}, "expected WxH"),
        ({"input_size": "641x480"}, "multiple of 32"),
        ({"input_size": "99999x32"}, "multiple of 32, up to 4096"),
        ({"cameras": ["a", "b", "a"]}, "appears twice"),
        ({"cameras": ["a/b"]}, "cannot be part of a topic name"),
        ({"cameras": ["ä"]}, "cannot be part of a topic name"),
        ({"drivable_classes": ["road"], "object_classes": ["road"]}, "one or the other"),
        ({"backend": "cpu", "precision": "fp16"}, "fp16 needs backend tensorrt"),
        ({"backend": "tensorrt", "precision": "bf16"}, "bf16 needs backend cpu"),
        ({"model": ""}, "model is empty"),
        ({"grid_resolution_m": 0.01, "grid_length_m": 500.0}, "more than 1000000"),
        ({"publish_grid": True, "grid_frame": ""}, "publish_grid needs grid_frame"),
    ],
)
def test_values_that_are_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        Settings.from_values(values)


def test_changed_names_when() -> None:
    new = Settings.from_values({"model": "other", "max_age_ms": 5.0, "image_qos": "reliable"})
    assert changed(Settings(), new) == {
        "model": "cleanup",
        "max_age_ms": "running",
        "image_qos": "deactivate",
    }


def test_every_parameter_has_a_description() -> None:
    for parameter in fields(Settings):
        assert parameter.metadata["description"].endswith("."), parameter.name


@pytest.mark.parametrize("page", ["docs/ros.md", "README.md"])
def test_table_of_the_documentation_is_current(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert markdown_table() in text, (
        f"put the output of `python -m deeplab_rt.ros.parameters` into {page}"
    )
