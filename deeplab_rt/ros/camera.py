"""One camera of the node: its topics, its counters, and the way of its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode

from deeplab_rt.camera.ego_mask import EgoMask, blank
from deeplab_rt.camera.encodings import check_message, decode_message, stamp_ns_of
from deeplab_rt.camera.image_range import ImageRange
from deeplab_rt.errors import FrameError, one_line
from deeplab_rt.frame import Frame
from deeplab_rt.masks import Masks
from deeplab_rt.ros.diagnostics import CameraReport, CameraStats, Status
from deeplab_rt.ros.ground_output import GroundThread, PoseSource
from deeplab_rt.ros.inputs import CameraInputs
from deeplab_rt.ros.launch_arguments import beside
from deeplab_rt.ros.outputs import CameraOutputs, FrameResult
from deeplab_rt.ros.parameters import Settings
from deeplab_rt.worker import InferenceWorker

if TYPE_CHECKING:
    from deeplab_rt.ros.video_input import VideoInput

WARN_EVERY_S = 5.0  # the same warning of the same camera is not repeated sooner


class Camera:
    """Takes a camera's images to the worker and publishes the masks that come back.

    The way of a frame is :meth:`on_image` in the executor and then, in the worker's thread,
    :class:`ImageJob`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        index: int,
        name: str,
        worker: InferenceWorker,
        settings: Callable[[], Settings],
    ) -> None:
        """Make its publishers.

        Args:
            node: whose topics they are.
            index: which of the worker's cameras it is.
            name: empty for the only one.
            worker: segments the frames.
            settings: gives the parameters of now.
        """
        self.name = name
        self.stats = CameraStats()
        self.report = CameraReport(
            f"{node.get_fully_qualified_name().lstrip('/')}: {name or 'camera'}", self.stats
        )
        self.settings = settings
        self.worker = worker
        self.inputs: CameraInputs | None = None
        self.active = False
        self.ego: EgoMask | None = None
        self._video: VideoInput | None = None
        self._poses: PoseSource | None = None
        self._ground: GroundThread | None = None
        self._node = node
        self._index = index
        self._warned: dict[str, float] = {}
        self.outputs = CameraOutputs(node, name, self.warn)

    def activate(self, poses: PoseSource, ground: GroundThread | None) -> None:
        """Make the outputs that the parameters ask for.

        Args:
            poses: where the camera's pose comes from.
            ground: where to wait for it; None if it is known at once.

        Raises:
            StreamError: the ego mask cannot be read.
        """
        settings = self.settings()
        text = settings.ego_mask[self._index] if self._index < len(settings.ego_mask) else ""
        self.ego = EgoMask(text) if text else None
        self._poses, self._ground = poses, ground
        self.outputs.activate(settings)
        self.active = True

    def deactivate(self) -> None:
        """Take these outputs down."""
        self.active = False
        self.outputs.deactivate()
        self._poses = self._ground = None

    def listen(self) -> None:
        """Subscribe."""
        settings = self.settings()
        prefix = f"{self.name}/" if self.name else ""
        topics = f"{prefix}image", f"{prefix}camera_info"
        if settings.images and settings.images[self._index]:
            topics = settings.images[self._index], beside(settings.images[self._index])
        self.stats.last_received = time.monotonic()
        self.inputs = CameraInputs(
            self._node,
            topics,
            settings.image_transport,
            settings.image_qos == "reliable",
            self.on_image,
            partial(self.stats.count, "lost"),
            self.warn,
        )
        self._node.get_logger().info(self.inputs.description)
        if self.inputs.transport in ("ffmpeg", "foxglove"):
            self.take_video()

    def take_video(self) -> None:
        """Take what comes for packets of video from now on."""
        from deeplab_rt.ros.video_input import VideoInput  # which loads PyAV

        self._video = VideoInput()

    def status(self) -> Status:
        """What is to be said of its health now."""
        settings, inputs = self.settings(), self.inputs
        return self.report.make(
            inputs is not None,
            self._node.get_clock().now().nanoseconds,
            settings.max_age_ms,
            settings.expected_rate_hz,
            inputs.why_silent if inputs is not None else lambda: "",
        )

    def stop_listening(self) -> None:
        """Unsubscribe."""
        if self.inputs is not None:
            self.inputs.close()
            self.inputs = None
        if self._video is not None:
            self.stats.count("discarded", self._video.close())
            self._video = None

    def on_image(self, message: Any) -> None:
        """Take note of an image message; the worker does the rest, unless a newer one comes first."""
        received = time.perf_counter()
        if self.inputs is None:
            return  # came while the subscription was being taken down
        self.stats.count("received")
        self.stats.last_received = time.monotonic()
        if self._video is not None:
            self._on_packet(self._video, message, received)
            return
        try:
            check_message(message)
        except FrameError as error:
            self.on_bad_frame(error)
            return
        image_range = ImageRange.parse(self.settings().image_range)
        load = partial(decode_message, message, self.name, image_range)
        self._put(ImageJob(self, message.header, received, load))

    def _on_packet(self, video: VideoInput, message: Any, received: float) -> None:
        """Decode a packet of video here, as none may be left out."""
        from deeplab_rt.ros.video_input import frame_of

        for (header, since), image in video.decode(message, received):
            if isinstance(image, FrameError):
                self.on_bad_frame(image)
            else:
                load = partial(frame_of, image, header, self.name)
                self._put(ImageJob(self, header, since, load))

    def _put(self, job: ImageJob) -> None:
        """Let a frame wait for the worker, unless it is too old."""
        age = self.age_ms(job.header)
        if age is not None:
            self.stats.time({"transport": age})
            limit = self.settings().max_age_ms
            if 0 < limit < age:
                self.stats.count("stale")
                self.warn(f"frame dropped as older than {limit:g} ms: {age:.0f} ms")
                return
        elif not stamp_ns_of(job.header):
            self.stats.count("unstamped")
        if self.worker.put(self._index, job) is not None:
            self.stats.count("replaced")

    def publish_ground(self, result: FrameResult) -> None:
        """Publish the outputs on the ground, when the camera's pose is known."""
        ground, poses = self._ground, self._poses
        if poses is None or not self.outputs.wanted("ground"):
            return

        def publish() -> None:
            try:
                result.mounting, exact = poses.find(result.header)
                if not exact:
                    self.stats.count("older_pose")
                self.report_errors(self.outputs.publish(result, "ground"))
            except FrameError as error:
                self.report_errors([error])

        if ground is None:
            publish()
        elif not ground.put(publish):
            self.report_errors([FrameError("no ground: too many frames wait for a transform")])

    def report_errors(self, errors: Sequence[FrameError]) -> None:
        """Count and name the outputs of a frame that could not be made."""
        if errors:
            self.stats.incomplete = "; ".join(one_line(error) for error in errors)
            self.stats.count("incomplete")
            self.warn(f"not all is published: {self.stats.incomplete}")

    def age_ms(self, header: Any) -> float | None:
        """Time since the stamp on the clock that stamps frames.

        None without a stamp, and while simulated time has not begun.
        """
        stamp, now = stamp_ns_of(header), self._node.get_clock().now().nanoseconds
        return (now - stamp) / 1e6 if stamp and now else None

    def on_bad_frame(self, error: FrameError) -> None:
        """Count it, and say what is wrong with it."""
        self.stats.count("bad")
        self.warn(f"bad frame: {' '.join(str(error).split())}")

    def warn(self, text: str) -> None:
        """Log a warning; one that begins the same, up to its colon, not oftener than every 5 s."""
        key, now = text.partition(":")[0], time.monotonic()
        if now - self._warned.get(key, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._warned[key] = now
            self._node.get_logger().warning(f"{self.name}: {text}" if self.name else text)


class ImageJob:
    """An image on its way through the worker: decoded, segmented, published."""

    def __init__(
        self, camera: Camera, header: Any, received: float, decode: Callable[[], Frame]
    ) -> None:
        """Take note.

        Args:
            camera: whose it is.
            header: of its message.
            received: time.perf_counter() of its arrival.
            decode: gives the frame; FrameError if it cannot be decoded.
        """
        self.header = header
        self._camera = camera
        self._received = received
        self._decode = decode

    def load(self) -> Frame:
        started = time.perf_counter()
        frame = self._decode()
        if self._camera.ego is not None:
            self._camera.ego.check(frame.size)
        decoded = time.perf_counter()
        waited = 1e3 * (started - self._received)
        self._camera.stats.time({"wait": waited, "decode": 1e3 * (decoded - started)})
        return frame

    def deliver(self, frame: Frame, masks: Masks) -> None:
        camera, stats, header = self._camera, self._camera.stats, self.header
        settings = camera.settings()
        masks.timings.pop("total")
        stats.time(masks.timings)
        age = camera.age_ms(header)
        if age is not None and 0 < settings.max_age_ms < age:
            stats.count("late")
            camera.warn(f"mask dropped as older than {settings.max_age_ms:g} ms: {age:.0f} ms")
            return
        if not camera.active:  # the node was deactivated and did not wait for so long
            stats.count("discarded")
            return
        started = time.perf_counter()
        ego = camera.ego.at(frame.size, masks.size) if camera.ego is not None else None
        if ego is not None:
            blank(masks, ego)
        info = camera.inputs.info if camera.inputs is not None else None
        labels = camera.worker.segmenter.labels
        result = FrameResult(header, frame, masks, labels, info, settings, ego=ego)
        camera.report_errors(camera.outputs.publish(result, "masks"))
        camera.publish_ground(result)
        done = time.perf_counter()
        stages = {"publish": 1e3 * (done - started), "node": 1e3 * (done - self._received)}
        age = camera.age_ms(header)
        if age is not None:
            stages["latency"] = age
        stats.newest_stamp_ns = None if age is None else frame.stamp_ns
        stats.time(stages)
        stats.count("published")
        camera.outputs.publish(result, "people")

    def reject(self, error: FrameError) -> None:
        self._camera.on_bad_frame(error)

    def discard(self) -> None:
        self._camera.stats.count("discarded")
