"""The topics that the node publishes for one camera."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from deeplab_rt.camera.calibration import fill_camera_info
from deeplab_rt.frame import Channels
from deeplab_rt.labels import LabelSet
from deeplab_rt.masks import Masks, overlay
from deeplab_rt.ros import qos
from deeplab_rt.ros.cdr import serialise_image

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # on no package index; std_msgs/String then carries the same as JSON
    LabelInfo = VisionClass = None

JPEG_QUALITY = 80


class CameraOutputs:
    """Publishers of one camera; made when the node is configured, silent until it is active."""

    def __init__(self, node: LifecycleNode, camera: str, warn: Callable[[str], None]) -> None:
        """Make the publishers.

        Args:
            node: whose they are.
            camera: its name; empty for the only one.
            warn: takes a line when somebody cannot connect to one of them.
        """
        self._node = node
        self._warn = warn
        self._publishers: list[Any] = []
        self._prefix = f"~/{camera}/" if camera else "~/"
        names = ("drivable_mask", "object_mask", "label_mask", "confidence", "overlay")
        with ExitStack() as stack:
            stack.callback(self.close)  # of what is made, if one of them cannot be
            self._images = {name: self._publisher(Image, name) for name in names}
            self._overlay_jpeg = self._publisher(CompressedImage, "overlay/compressed")
            self._camera_info = self._publisher(CameraInfo, "camera_info")
            self._label_info = self._publisher(LabelInfo or String, "label_info", latched=True)
            stack.pop_all()

    def publish_labels(self, labels: LabelSet, header: Any) -> None:
        """Tell every present and future subscriber what the label ids mean."""
        if LabelInfo is None:
            self._label_info.publish(String(data=label_info_json(labels)))
            return
        classes = [VisionClass(class_id=label.id, class_name=label.name) for label in labels.labels]
        self._label_info.publish(LabelInfo(header=header, class_map=classes))

    def publish_masks(self, masks: Masks, header: Any, info: CameraInfo | None) -> None:
        """Publish the masks of one frame under its header, and the calibration that fits them.

        A mask that nobody listens to is not serialised.

        Raises:
            FrameError: ``info`` is of a camera that is not calibrated; the masks are out.
        """
        self._image("drivable_mask", masks.drivable, "mono8", header)
        self._image("object_mask", masks.objects, "mono8", header)
        self._image("label_mask", masks.labels, "mono8", header)
        if masks.confidence is not None:
            self._image("confidence", masks.confidence, "mono8", header)
        if info is not None:
            scaled = CameraInfo(header=header)
            fill_camera_info(scaled, info, masks.size)
            self._camera_info.publish(scaled)

    def publish_overlay(
        self,
        frame: np.ndarray,
        channels: Channels,
        masks: Masks,
        labels: LabelSet,
        alpha: float,
        header: Any,
    ) -> None:
        """Publish the overlay, as an image and as JPEG, each only if somebody listens to it."""
        raw = self._images["overlay"].get_subscription_count() > 0
        jpeg = self._overlay_jpeg.get_subscription_count() > 0
        if not raw and not jpeg:
            return
        if channels == "rgb":
            frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        picture = overlay(frame, masks, labels, alpha)
        if raw:
            self._image("overlay", picture, "bgr8", header)
        if jpeg:
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
            message.data = array("B", data.tobytes())
            self._overlay_jpeg.publish(message)

    def close(self) -> None:
        """Take the topics down."""
        while self._publishers:
            self._node.destroy_lifecycle_publisher(self._publishers.pop())

    def _image(self, name: str, image: np.ndarray, encoding: str, header: Any) -> None:
        publisher = self._images[name]
        if publisher.get_subscription_count() > 0:
            publisher.publish(serialise_image(header, image, encoding))

    def _publisher(self, kind: Any, name: str, latched: bool = False) -> Any:
        profile = qos.latched_qos() if latched else qos.mask_qos()
        topic = self._node.resolve_topic_name(self._prefix + name)
        mismatch = qos.warn_of_mismatch(self._node, topic, True, profile, self._warn)
        publisher = qos.with_events(
            lambda events: self._node.create_lifecycle_publisher(
                kind,
                topic,
                profile,
                event_callbacks=events,
                qos_overriding_options=None if latched else qos.OUTPUT_OVERRIDES,
            ),
            qos.PublisherEventCallbacks,
            {"incompatible_qos": mismatch},
        )
        self._publishers.append(publisher)
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
