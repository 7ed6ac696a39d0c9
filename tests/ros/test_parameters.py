"""Parameters: bounds, what goes together, and the table of the documentation."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import yaml

from deeplab_rt.ros.parameters import ParameterError, Settings, changed
from tools.ros_parameters import generated_files, parameter_file


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
        ({"image_range": "9,1"}, "image_range: '9,1' is not a range"),
        ({"backend": "cpu", "engine_file": "a.engine"}, "device and engine_file are of a GPU"),
        ({"model": ""}, "model is empty"),
        ({"grid_resolution_m": 0.01, "grid_length_m": 500.0}, "more than 1000000"),
        ({"ego_mask": ["a.png", "b.png"]}, "ego_mask has 2 texts for 1 cameras"),
        ({"publish_grid": True, "grid_frame": ""}, "publish_free_space need grid_frame"),
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


def test_what_is_written_from_the_parameters_is_current() -> None:
    for path, text in generated_files().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m tools.ros_parameters`"


def test_parameter_file_has_every_parameter_at_its_default() -> None:
    values = yaml.safe_load(parameter_file())["/**"]["ros__parameters"]
    assert set(values) == {parameter.name for parameter in fields(Settings)} - {"autostart"}
    assert Settings.from_values(values) == Settings()
    for parameter in fields(Settings):  # ROS would refuse a whole number for a floating-point one
        if isinstance(parameter.default, float):
            assert isinstance(values[parameter.name], float), parameter.name
