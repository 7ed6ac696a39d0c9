"""What the node publishes for every frame of a camera: one entry of :data:`OUTPUTS` each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan
from std_msgs.msg import String

from deeplab_rt.camera.calibration import fill_camera_info
from deeplab_rt.camera.ground import Lens, Mounting
from deeplab_rt.camera.ground_view import GroundView
from deeplab_rt.errors import FrameError
from deeplab_rt.frame import Frame, swap_red_and_blue
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks, colorize, overlay
from deeplab_rt.ros import qos
from deeplab_rt.ros.cdr import serialise_image
from deeplab_rt.ros.ground_output import grid_message, scan_message
from deeplab_rt.ros.parameters import Settings

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # on no package index; std_msgs/String then carries the same as JSON
    LabelInfo = VisionClass = None

JPEG_QUALITY = 80
Step = Literal["masks", "ground", "people"]


@dataclass
class FrameResult:
    """One segmented frame, and what its outputs are made of.

    Attributes:
        header: ``std_msgs/Header`` of the image, which every output carries on.
        frame: the image.
        masks: what was made of it.
        labels: the label set of the masks.
        info: the newest CameraInfo of the camera; None if none has come.
        settings: the parameters.
        mounting: how the camera stands over the ground; None until it is known.
        ego: bool [H, W] of the masks' size, where the camera sees the vehicle itself; None for nowhere.
    """

    header: Any
    frame: Frame
    masks: Masks
    labels: LabelSet
    info: CameraInfo | None
    settings: Settings
    mounting: Mounting | None = None
    ego: np.ndarray | None = None

    @cached_property
    def overlay(self) -> np.ndarray:
        """uint8 [H, W, 3] BGR: made once for its two topics."""
        return overlay(self.frame.bgr, self.masks, self.labels, self.settings.overlay_alpha)

    @cached_property
    def ground(self) -> GroundView:
        """The masks as ground; made once for all outputs on the ground.

        Raises:
            FrameError: the camera is not calibrated.
        """
        assert self.mounting is not None
        if self.info is None:
            raise FrameError("no ground: no camera_info has come")
        lens = Lens.from_info(self.info, self.masks.size)
        return GroundView(self.masks, lens, self.mounting, self.ego)


@dataclass(frozen=True)
class Output:
    """One topic that the node publishes for every frame.

    Attributes:
        name: of the topic, below the node's name (and the camera's).
        kind: type of its messages.
        make: makes the message, or None if there is nothing to say; FrameError if it cannot be made.
        enabled: whether the topic is there, by the parameters of the time of activation.
        latched: whether late subscribers get the last one, which is then made although nobody listens.
        step: when it is made: ``masks`` at once, ``ground`` when the camera's pose is known,
            ``people`` after the others, which do not wait for it.
    """

    name: str
    kind: Any
    make: Callable[[FrameResult], Any]
    enabled: Callable[[Settings], bool] = lambda settings: True
    latched: bool = False
    step: Step = "masks"


def wants_grid(settings: Settings) -> bool:
    """Whether the grid is asked for."""
    return settings.publish_grid


def wants_free_space(settings: Settings) -> bool:
    """Whether the free-space scan is asked for."""
    return settings.publish_free_space


def _mono8(header: Any, mask: np.ndarray) -> bytes:
    return serialise_image(header, mask, "mono8")


def _confidence(result: FrameResult) -> bytes | None:
    mask = result.masks.confidence
    return None if mask is None else _mono8(result.header, mask)


def _camera_info(result: FrameResult) -> CameraInfo | None:
    if result.info is None:
        return None
    message = CameraInfo(header=result.header)
    fill_camera_info(message, result.info, result.masks.size)
    return message


def _drivable_grid(result: FrameResult) -> OccupancyGrid:
    return grid_message(result.ground, result.header, result.settings)


def _free_space(result: FrameResult) -> LaserScan:
    return scan_message(result.ground, result.header, result.settings)


def _overlay(result: FrameResult) -> bytes:
    return serialise_image(result.header, result.overlay, "bgr8")


def _overlay_jpeg(result: FrameResult) -> CompressedImage:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", result.overlay, quality)
    message = CompressedImage(header=result.header, format="bgr8; jpeg compressed bgr8")
    message.data = array("B", data.tobytes())
    return message


def _color_mask(result: FrameResult) -> bytes:
    bgr = colorize(result.masks.labels, result.labels)
    return serialise_image(result.header, swap_red_and_blue(bgr), "rgb8")


def _label_png(result: FrameResult) -> CompressedImage:
    # Runs of equal labels: a third of the time of the fastest level, and smaller.
    strategy = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, data = cv2.imencode(".png", result.masks.labels, strategy)
    message = CompressedImage(header=result.header, format="mono8; png compressed mono8")
    message.data = array("B", data.tobytes())
    return message


OUTPUTS = (
    Output("drivable_mask", Image, lambda r: _mono8(r.header, r.masks.drivable)),
    Output("object_mask", Image, lambda r: _mono8(r.header, r.masks.objects)),
    Output("label_mask", Image, lambda r: _mono8(r.header, r.masks.labels)),
    Output("confidence", Image, _confidence),
    Output("camera_info", CameraInfo, _camera_info),
    Output("drivable_grid", OccupancyGrid, _drivable_grid, wants_grid, True, "ground"),
    Output("free_space", LaserScan, _free_space, wants_free_space, False, "ground"),
    Output("overlay", Image, _overlay, step="people"),
    Output("overlay/compressed", CompressedImage, _overlay_jpeg, step="people"),
    Output("color_mask", Image, _color_mask, step="people"),
    Output("label_mask/compressed", CompressedImage, _label_png, step="people"),
)


class CameraOutputs:
    """Publishers of one camera; made when the node is configured, silent until it is active."""

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        warn: Callable[[str], None],
        outputs: tuple[Output, ...] = OUTPUTS,
    ) -> None:
        """Make the publishers that do not depend on parameters.

        Args:
            node: whose they are.
            camera: its name; empty for the only one.
            warn: takes a line when somebody cannot connect to one of them.
            outputs: what to publish.
        """
        self._node = node
        self._warn = warn
        self._outputs = outputs
        self._prefix = f"~/{camera}/" if camera else "~/"
        self._publishers: dict[str, Any] = {}
        self._optional = [o.name for o in outputs if not o.enabled(Settings())]
        with ExitStack() as stack:
            stack.callback(self.close)  # of what is made, if one of them cannot be
            self._label_info = self._publish(LabelInfo or String, "label_info", latched=True)
            for output in outputs:
                if output.name not in self._optional:
                    self._publish(output.kind, output.name, output.latched)
            stack.pop_all()

    def activate(self, settings: Settings) -> None:
        """Make the publishers that the parameters ask for."""
        for output in self._outputs:
            if output.name in self._optional and output.enabled(settings):
                self._publish(output.kind, output.name, output.latched)

    def deactivate(self) -> None:
        """Take down what :meth:`activate` made."""
        for name in self._optional:
            self._destroy(name)

    def publish_labels(self, labels: LabelSet, header: Any) -> None:
        """Tell every present and future subscriber what the label ids mean."""
        if LabelInfo is None:
            self._label_info.publish(String(data=label_info_json(labels)))
            return
        classes = [VisionClass(class_id=label.id, class_name=label.name) for label in labels.labels]
        self._label_info.publish(LabelInfo(header=header, class_map=classes))

    def wanted(self, step: Step) -> bool:
        """Whether anything of a step would be published now."""
        return any(self._is_wanted(output) for output in self._outputs if output.step == step)

    def publish(self, result: FrameResult, step: Step) -> list[FrameError]:
        """Publish what somebody listens to, or what is latched.

        Args:
            result: one frame's.
            step: which outputs.

        Returns:
            Why an output could not be made; the others are out.
        """
        errors = []
        for output in self._outputs:
            publisher = self._publishers.get(output.name)
            if output.step != step or publisher is None or not self._is_wanted(output):
                continue
            try:
                message = output.make(result)
            except FrameError as error:
                errors.append(error)
                continue
            if message is not None:
                publisher.publish(message)
        return errors

    def close(self) -> None:
        """Take the topics down."""
        for name in list(self._publishers):
            self._destroy(name)

    def _is_wanted(self, output: Output) -> bool:
        publisher = self._publishers.get(output.name)
        if publisher is None:
            return False
        return output.latched or publisher.get_subscription_count() > 0

    def _destroy(self, name: str) -> None:
        if name in self._publishers:
            self._node.destroy_lifecycle_publisher(self._publishers.pop(name))

    def _publish(self, kind: Any, name: str, latched: bool) -> Any:
        profile = qos.latched_qos() if latched else qos.mask_qos()
        topic = self._node.resolve_topic_name(self._prefix + name)
        mismatch = qos.warn_of_mismatch(self._node, topic, True, profile, self._warn)
        self._publishers[name] = publisher = qos.with_events(
            lambda events: self._node.create_lifecycle_publisher(
                kind,
                topic,
                profile,
                event_callbacks=events,
                qos_overriding_options=None if name == "label_info" else qos.OUTPUT_OVERRIDES,
            ),
            qos.PublisherEventCallbacks,
            {"incompatible_qos": mismatch},
        )
        return publisher


def label_info_json(labels: LabelSet) -> str:
    """What ``vision_msgs/LabelInfo`` says, and colours and groups, as JSON."""
    classes = [
        {
            "class_id": label.id,
            "class_name": label.name,
            "color": list(label.color),
            "groups": sorted(label.groups),
        }
        for label in labels.labels
    ]
    return json.dumps({"class_map": classes, "threshold": 0.0})
