"""What the node publishes for every frame of a camera: one entry of :data:`OUTPUTS` each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from deeplab_rt.camera.calibration import fill_camera_info
from deeplab_rt.errors import FrameError
from deeplab_rt.frame import Frame
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks, overlay
from deeplab_rt.ros import qos
from deeplab_rt.ros.cdr import serialise_image
from deeplab_rt.ros.ground_output import PoseSource, grid_message
from deeplab_rt.ros.parameters import Settings

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # on no package index; std_msgs/String then carries the same as JSON
    LabelInfo = VisionClass = None

JPEG_QUALITY = 80


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
        poses: where the camera's pose comes from.
    """

    header: Any
    frame: Frame
    masks: Masks
    labels: LabelSet
    info: CameraInfo | None
    settings: Settings
    poses: PoseSource

    @cached_property
    def overlay(self) -> np.ndarray:
        """uint8 [H, W, 3] BGR: made once for its two topics."""
        return overlay(self.frame.bgr, self.masks, self.labels, self.settings.overlay_alpha)

    def calibration(self, output: str) -> CameraInfo:
        """The CameraInfo.

        Raises:
            FrameError: none has come, so that ``output`` cannot be made.
        """
        if self.info is None:
            raise FrameError(f"no {output}: no camera_info has come")
        return self.info


@dataclass(frozen=True)
class Output:
    """One topic that the node publishes for every frame.

    Attributes:
        name: of the topic, below the node's name (and the camera's).
        kind: type of its messages.
        make: makes the message, or None if there is nothing to say; FrameError if it cannot be made.
        enabled: whether the topic is there, by the parameters of the time of activation.
        latched: whether late subscribers get the last one, which is then made although nobody listens.
        for_people: whether it is made after the others, which do not wait for it.
    """

    name: str
    kind: Any
    make: Callable[[FrameResult], Any]
    enabled: Callable[[Settings], bool] = lambda settings: True
    latched: bool = False
    for_people: bool = False


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
    info = result.calibration("grid")
    return grid_message(result.masks, result.header, info, result.settings, result.poses)


def _overlay(result: FrameResult) -> bytes:
    return serialise_image(result.header, result.overlay, "bgr8")


def _overlay_jpeg(result: FrameResult) -> CompressedImage:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", result.overlay, quality)
    message = CompressedImage(header=result.header, format="bgr8; jpeg compressed bgr8")
    message.data = array("B", data.tobytes())
    return message


OUTPUTS = (
    Output("drivable_mask", Image, lambda r: _mono8(r.header, r.masks.drivable)),
    Output("object_mask", Image, lambda r: _mono8(r.header, r.masks.objects)),
    Output("label_mask", Image, lambda r: _mono8(r.header, r.masks.labels)),
    Output("confidence", Image, _confidence),
    Output("camera_info", CameraInfo, _camera_info),
    Output("drivable_grid", OccupancyGrid, _drivable_grid, lambda s: s.publish_grid),
    Output("overlay", Image, _overlay, for_people=True),
    Output("overlay/compressed", CompressedImage, _overlay_jpeg, for_people=True),
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

    def publish(self, result: FrameResult, for_people: bool = False) -> list[FrameError]:
        """Publish what somebody listens to, or what is latched.

        Args:
            result: one frame's.
            for_people: which outputs: those for people, or the others.

        Returns:
            Why an output could not be made; the others are out.
        """
        errors = []
        for output in self._outputs:
            publisher = self._publishers.get(output.name)
            if publisher is None or output.for_people != for_people:
                continue
            if not output.latched and not publisher.get_subscription_count():
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
