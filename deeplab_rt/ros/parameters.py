"""The node's parameters: declared once, here, with their bounds, and read as one :class:`Settings`.

Imports nothing of ROS. ``python -m tools.ros_parameters`` writes their table into docs/ros.md and
config/segmenter.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from deeplab_rt.camera.image_range import ImageRange
from deeplab_rt.errors import DeeplabError, ModelError
from deeplab_rt.frame import Size
from deeplab_rt.models import DEFAULT_MODEL, check_input_size
from deeplab_rt.options import BACKENDS, PRECISIONS

When = Literal["running", "deactivate", "cleanup", "start"]
"""When a parameter may change: while running, after that transition, or at start only."""


SECTIONS = {
    "model": "Model and engine",
    "image_transport": "Input",
    "mask_size": "Masks",
    "max_age_ms": "Freshness",
    "publish_grid": "The ground, for planners",
}
"""Headings of the parameter file, by the first parameter below each."""


class ParameterError(DeeplabError):
    """A parameter is out of its bounds, or does not go with another one."""


def _parameter(
    default: Any,
    when: When,
    description: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
) -> Any:
    metadata = {"when": when, "description": description, "choices": choices, "bounds": bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The values of all parameters. A tuple of names that is empty, or of one empty name, is unset."""

    model: str = _parameter(
        DEFAULT_MODEL, "cleanup", "Name of a model, or the directory that holds its model.yaml."
    )
    backend: str = _parameter(
        "auto",
        "cleanup",
        "What runs the network; `auto` takes TensorRT where it can run, else the CPU.",
        choices=BACKENDS,
    )
    precision: str = _parameter(
        "auto",
        "cleanup",
        "Precision of the network; `auto` is the model's own choice for the backend.",
        choices=("auto", *PRECISIONS),
    )
    input_size: str = _parameter(
        "",
        "cleanup",
        "Size of the network's input as WxH, each a multiple of 32; empty lets it follow each camera's "
        "shape with the model's number of pixels (on a GPU: the engine built last).",
    )
    engine_policy: str = _parameter(
        "require",
        "cleanup",
        "When TensorRT could run but its engine is missing or stale: refuse to configure and name "
        "the build command, build it while configuring, or let the CPU serve while it is built.",
        choices=("require", "build", "cpu_while_building"),
    )
    device: int = _parameter(0, "cleanup", "Index of the GPU.", bounds=(0, 63))
    engine_file: str = _parameter(
        "",
        "cleanup",
        "A compiled TensorRT engine to load, its sidecar (.json) beside it; empty for the cache's.",
    )
    cameras: tuple[str, ...] = _parameter(
        (),
        "cleanup",
        "Names of several cameras that share the engine; each has its topics under its name. "
        "Empty for one camera without a name.",
    )
    images: tuple[str, ...] = _parameter(
        (),
        "cleanup",
        "Image topics, one for each camera; `camera_info` is beside each. Empty for `image`, or "
        "`NAME/image` of each of `cameras`. Several without `cameras` name the cameras by their topics.",
    )
    image_transport: str = _parameter(
        "raw",
        "deactivate",
        "`raw` subscribes to `image` (Image), the others to `image/TRANSPORT`: `compressed` to "
        "CompressedImage, `ffmpeg` to FFMPEGPacket and `foxglove` to CompressedVideo (H.264, H.265).",
        choices=("raw", "compressed", "ffmpeg", "foxglove"),
    )
    ego_mask: tuple[str, ...] = _parameter(
        (),
        "deactivate",
        "Where a camera sees the vehicle itself, one text for each camera: an image of the camera's size "
        "whose pixels above 0 are the vehicle, or polygons in pixels (`0,400 640,400 640,480 0,480`, "
        "more after `;`). Masks are 0 there, grid and free space unknown.",
    )
    image_range: str = _parameter(
        "",
        "running",
        "Of images of 16 bits: which values become 0 to 255, as `LOW,HIGH` (`0,1023` for a camera of 10 "
        "bits) or as percentiles of each image (`1%,99%`); empty for all 16 bits.",
    )
    image_qos: str = _parameter(
        "sensor_data",
        "deactivate",
        "Quality of service of the image subscription: best effort or reliable.",
        choices=("sensor_data", "reliable"),
    )
    mask_size: str = _parameter(
        "input",
        "running",
        "Masks of the size of the camera's image, or of the network's input (smaller, cheaper).",
        choices=("input", "network"),
    )
    drivable_classes: tuple[str, ...] = _parameter(
        (), "running", "Class names that make the drivable mask; empty for the model's own."
    )
    object_classes: tuple[str, ...] = _parameter(
        (), "running", "Class names that make the object mask; empty for the model's own."
    )
    max_age_ms: float = _parameter(
        0.0,
        "running",
        "Frames older than this on arrival, and masks older than this when done, are dropped; "
        "0 for no limit.",
        bounds=(0.0, 60_000.0),
    )
    expected_rate_hz: float = _parameter(
        0.0,
        "running",
        "Masks a second of each camera below nine tenths of which diagnostics warn; 0 for none.",
        bounds=(0.0, 1000.0),
    )
    publish_confidence: bool = _parameter(
        False, "running", "Publish `~/confidence`; it costs several times what the masks cost."
    )
    overlay_alpha: float = _parameter(
        0.5, "running", "Weight of the label colours in the overlay.", bounds=(0.0, 1.0)
    )
    publish_grid: bool = _parameter(
        False, "deactivate", "Publish `~/drivable_grid`; it needs `camera_info`."
    )
    publish_free_space: bool = _parameter(
        False, "deactivate", "Publish `~/free_space`; it needs `camera_info`."
    )
    grid_frame: str = _parameter(
        "base_footprint",
        "deactivate",
        "Frame of grid and free space: its x axis forward, its plane z = 0 the ground.",
    )
    grid_tf: bool = _parameter(
        False,
        "deactivate",
        "Take the camera's pose in `grid_frame` from tf2 instead of from height, pitch and roll.",
    )
    grid_tf_tolerance_ms: float = _parameter(
        200.0,
        "running",
        "How long the transform of a frame's time is waited for, and how far off the newest one may be "
        "that takes its place, in milliseconds.",
        bounds=(0.0, 5000.0),
    )
    camera_height_m: float = _parameter(
        1.5, "running", "Height of the camera above the ground, in metres.", bounds=(0.01, 100.0)
    )
    camera_pitch_deg: float = _parameter(
        0.0,
        "running",
        "Pitch of the camera in degrees, positive when it looks down.",
        bounds=(-45.0, 90.0),
    )
    camera_roll_deg: float = _parameter(
        0.0,
        "running",
        "Roll of the camera in degrees, positive when its right side is lower.",
        bounds=(-180.0, 180.0),
    )
    grid_resolution_m: float = _parameter(
        0.2, "running", "Side of a grid cell in metres.", bounds=(0.01, 10.0)
    )
    grid_length_m: float = _parameter(
        30.0,
        "running",
        "How far the grid reaches ahead of the camera, in metres.",
        (),
        (0.1, 500.0),
    )
    grid_width_m: float = _parameter(
        20.0, "running", "Width of the grid, the camera in its middle, in metres.", (), (0.1, 500.0)
    )
    free_space_range_m: float = _parameter(
        30.0, "running", "How far free space reaches, in metres.", (), (0.2, 500.0)
    )
    autostart: bool = _parameter(
        False,
        "start",
        "Configure and activate at start, for use without a launch file or a lifecycle manager.",
    )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras' names; one empty name for the only one that has none."""
        if self.cameras:
            return self.cameras
        if len(self.images) > 1:
            return _names_of_topics(self.images)
        return ("",)

    @property
    def network_size(self) -> Size | None:
        """``input_size`` as (height, width); None for the model's own."""
        if not self.input_size:
            return None
        return Size.parse(self.input_size)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from parameter values, all checked together.

        Args:
            values: parameter name -> value; what is absent keeps its default.

        Raises:
            ParameterError: a value is out of its bounds or does not go with another one. Whether
                the model knows the class names is the model's to say.
        """
        settings = cls(**{name: _clean(name, value) for name, value in values.items()})
        for parameter in fields(cls):
            _check(parameter.name, getattr(settings, parameter.name), parameter.metadata)
        settings._check_together()
        return settings

    def _check_together(self) -> None:
        if self.input_size:
            if not re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}", self.input_size):
                raise ParameterError(
                    f"input_size is {self.input_size!r}, expected WxH as in '640x480', or ''"
                )
            try:
                check_input_size(self.network_size or (0, 0))
            except ModelError as error:
                raise ParameterError(f"input_size: {error}") from None
        try:
            ImageRange.parse(self.image_range)
        except ValueError as error:
            raise ParameterError(f"image_range: {error}") from None
        for name in self.cameras:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ParameterError(
                    f"cameras: {name!r} cannot be part of a topic name; expected letters, digits "
                    "and underscores, a letter first"
                )
        for topic in filter(None, self.images):
            if not re.fullmatch(r"(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", topic, re.ASCII):
                raise ParameterError(
                    f"images: {topic!r} is not a topic name, as in /camera/image_raw"
                )
        if len(set(self.cameras)) != len(self.cameras):
            raise ParameterError(f"cameras: a name appears twice in {list(self.cameras)}")
        both = set(self.drivable_classes) & set(self.object_classes)
        if both:
            raise ParameterError(
                f"{', '.join(sorted(both))}: in drivable_classes and in object_classes; a class is "
                "one or the other"
            )
        if self.backend == "cpu" and self.precision == "fp16":
            raise ParameterError(
                "precision fp16 needs backend tensorrt; a CPU takes fp32, bf16, int8"
            )
        if self.backend == "cpu" and (self.device or self.engine_file):
            raise ParameterError(
                "device and engine_file are of a GPU; leave them out with backend cpu"
            )
        if self.backend == "tensorrt" and self.precision == "bf16":
            raise ParameterError(
                "precision bf16 needs backend cpu; TensorRT takes fp32, fp16, int8"
            )
        if not self.model:
            raise ParameterError("model is empty; expected a name or a directory")
        cells = self.grid_length_m * self.grid_width_m / self.grid_resolution_m**2
        if cells > MAX_CELLS:
            raise ParameterError(
                f"a grid of {self.grid_length_m} m x {self.grid_width_m} m at "
                f"{self.grid_resolution_m} m has {cells:.0f} cells, more than {MAX_CELLS}"
            )
        if (self.publish_grid or self.publish_free_space) and not self.grid_frame:
            raise ParameterError("publish_grid and publish_free_space need grid_frame")
        count = len(self.camera_names)
        if self.images and len(self.images) != count:
            raise ParameterError(f"images has {len(self.images)} topics for {count} cameras")
        if len(self.ego_mask) > count:
            raise ParameterError(f"ego_mask has {len(self.ego_mask)} texts for {count} cameras")


MAX_CELLS = 1_000_000
PER_CAMERA = ("ego_mask", "images")
"""Parameters that are lists with one entry for each camera."""


def changed(old: Settings, new: Settings) -> dict[str, When]:
    """Parameters that differ, and when each may change."""
    return {
        parameter.name: parameter.metadata["when"]
        for parameter in fields(Settings)
        if getattr(old, parameter.name) != getattr(new, parameter.name)
    }


def _names_of_topics(topics: Sequence[str]) -> tuple[str, ...]:
    """Names for cameras from their topics: the first word that differs, else their number."""
    words = [topic.strip("~/").split("/") for topic in topics]
    for place in range(min(map(len, words))):
        names = tuple(word[place] for word in words)
        if len(set(names)) == len(names) and all(re.fullmatch(r"[A-Za-z]\w*", n) for n in names):
            return names
    return tuple(f"camera_{index}" for index in range(len(topics)))


def _clean(name: str, value: Any) -> Any:
    """Lists of names without empty ones (ROS cannot type an empty list: [''] stands for it).

    Where a list goes with ``cameras``, an empty text is one camera's.
    """
    if isinstance(value, list | tuple) and name in PER_CAMERA:
        return tuple(value) if any(value) else ()
    if isinstance(value, list | tuple):
        return tuple(item for item in value if item)
    return value


def _check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    if metadata["choices"] and value not in metadata["choices"]:
        raise ParameterError(
            f"{name} is {value!r}, expected one of: {', '.join(metadata['choices'])}"
        )
    if metadata["bounds"]:
        low, high = metadata["bounds"]
        if not low <= value <= high:  # a NaN is refused too
            raise ParameterError(f"{name} is {value}, expected {low} to {high}")
