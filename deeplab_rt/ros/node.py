"""The lifecycle node ``deeplab``: camera images in, masks of the same moment out.

``configure`` loads the model, ``activate`` subscribes and publishes, ``deactivate`` stops and keeps
the loaded engine, ``cleanup`` frees it. Callbacks only take note of a frame; one thread does the
rest (:mod:`deeplab_rt.worker`). docs/ros.md lists topics, services and parameters.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from deeplab_rt.camera.encodings import (
    check_compressed,
    check_image,
    decode_compressed,
    decode_image,
)
from deeplab_rt.errors import DeeplabError, FrameError
from deeplab_rt.frame import Frame
from deeplab_rt.frame_buffer import LatestFrameBuffer
from deeplab_rt.ros import transport
from deeplab_rt.ros.diagnostics import ERROR as LEVEL_ERROR
from deeplab_rt.ros.diagnostics import CameraReport, CameraStats, Status
from deeplab_rt.ros.engine import Engine
from deeplab_rt.ros.grid_output import GridOutput, TransformListener
from deeplab_rt.ros.inputs import CameraInputs
from deeplab_rt.ros.outputs import CameraOutputs
from deeplab_rt.ros.parameters import ParameterError, Settings, changed
from deeplab_rt.ros.spin import GuardedSpin
from deeplab_rt.segmenter import Segmenter

NODE_NAME = "deeplab"
STOP_S = 1.5  # the longest that stopping waits for the frame in the network
WARN_EVERY_S = 5.0  # the same warning of the same camera is not repeated sooner

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


@dataclass
class _Frame:
    """An image message on its way through the node."""

    message: Any
    received: float  # time.perf_counter()


@dataclass
class _Camera:
    """What belongs to one camera while the node is configured."""

    name: str
    outputs: CameraOutputs
    grid: GridOutput | None = None
    stats: CameraStats = field(default_factory=CameraStats)
    inputs: CameraInputs | None = None

    def __post_init__(self) -> None:
        self.report = CameraReport(f"{NODE_NAME}: {self.name or 'camera'}", self.stats)


class SegmenterNode(LifecycleNode):
    """See the module. Spin it in a single-threaded executor."""

    def __init__(self, stopping: threading.Event, **kwargs: Any) -> None:
        """Declare the parameters; nothing is loaded.

        Args:
            stopping: set when the process is to end.
            kwargs: of ``LifecycleNode``.

        Raises:
            ParameterError: a parameter given at start is out of its bounds.
        """
        super().__init__(NODE_NAME, **kwargs)
        self._stopping = stopping
        self._cameras: list[_Camera] = []
        self._frames: LatestFrameBuffer[_Frame] = LatestFrameBuffer(0)
        self._engine: Engine[_Frame] | None = None
        self._configured = ExitStack()  # what configuring has made
        self._activated = ExitStack()  # what activating has made
        self._failure: Exception | None = None  # for which the node went back to unconfigured
        self._active = False
        self._enabled = True
        self._transforms: TransformListener | None = None
        self._warned: dict[str, float] = {}
        self._settings = self._declare()
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a clock of its own: diagnostics go on while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self._failed = self.create_guard_condition(self._on_failed)
        if not transport.profile_is_set():
            self.get_logger().warning(
                "Fast DDS runs with its defaults, which lose large frames; export "
                + " ".join(f"{k}={v}" for k, v in transport.profile_environment().items())
            )

    # Lifecycle. rclpy turns an exception here into ERROR without a word, hence `_guarded`.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self._configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self._activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self._deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self._free, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self._free, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node is unconfigured and can be configured again."""
        return self._guarded(self._free, state)

    def _guarded(
        self, step: Callable[[LifecycleState], TransitionCallbackReturn], state: LifecycleState
    ) -> TransitionCallbackReturn:
        try:
            return step(state)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return ERROR

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        names = self._settings.cameras or ("",)
        self._failure = None
        self._frames = LatestFrameBuffer(len(names))
        with ExitStack() as stack:
            engine = Engine(
                self._settings, self._frames, self._process, self._failed.trigger, self._log
            )
            stack.callback(self._close_engine, engine)
            try:
                engine.open(self._stopping)
            except DeeplabError as error:
                self.get_logger().error(f"cannot configure: {_one_line(error)}")
                return FAILURE
            cameras = []
            for name in names:
                cameras.append(_Camera(name, CameraOutputs(self, name, partial(self._warn, name))))
                stack.callback(cameras[-1].outputs.close)
            self._engine, self._cameras = engine, cameras
            self._configured = stack.pop_all()
        segmenter, info = engine.segmenter, engine.segmenter.info
        self._log(
            f"model {segmenter.model.name}, {info.name} {info.version} on {info.device}, "
            f"{info.precision}, input {info.input_size} ({segmenter.reason})"
        )
        return super().on_configure(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._engine is None or self._engine.failure is not None:
            return ERROR
        with ExitStack() as stack:
            stack.callback(self._stop)
            if self._settings.publish_grid:
                try:
                    self._transforms = TransformListener(self) if self._settings.grid_tf else None
                except DeeplabError as error:
                    self.get_logger().error(f"cannot activate: {_one_line(error)}")
                    return FAILURE
                for camera in self._cameras:
                    camera.grid = GridOutput(self, camera.name, self._transforms)
            super().on_activate(state)
            self._publish_labels()
            self._active = True
            if self._enabled:
                self._listen()
            self._activated = stack.pop_all()
        return SUCCESS

    def _deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._activated.close()
        super().on_deactivate(state)
        return SUCCESS if self._engine is not None and self._engine.failure is None else ERROR

    def _stop(self) -> None:
        """Undo what activation did, but for the switches of the publishers."""
        self._stop_listening()
        self._active = False
        for camera in self._cameras:
            if camera.grid is not None:
                camera.grid.close()
                camera.grid = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None

    def _free(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._activated.close()
        self._configured.close()
        self._engine, self._cameras = None, []
        return SUCCESS

    def _close_engine(self, engine: Engine[_Frame]) -> None:
        if not engine.close(STOP_S):
            self.get_logger().error(f"a frame has been in the network for more than {STOP_S} s")
        self._failure = engine.failure

    # Frames: `_on_image` in the executor, the rest in the inference thread.

    def _listen(self) -> None:
        settings = self._settings
        for index, camera in enumerate(self._cameras):
            camera.stats.last_received = time.monotonic()
            camera.inputs = CameraInputs(
                self,
                camera.name,
                settings.image_transport == "compressed",
                settings.image_qos == "reliable",
                partial(self._on_image, index),
                partial(camera.stats.count, "lost"),
                partial(self._warn, camera.name),
            )

    def _stop_listening(self) -> None:
        for camera in self._cameras:
            if camera.inputs is not None:
                camera.inputs.close()
                camera.inputs = None
        for index, _ in self._frames.clear():
            self._cameras[index].stats.count("discarded")
        if not self._frames.wait_done(STOP_S):
            self.get_logger().error(f"a frame has been in the network for more than {STOP_S} s")

    def _on_image(self, index: int, message: Any) -> None:
        received = time.perf_counter()
        camera = self._cameras[index] if index < len(self._cameras) else None
        if camera is None or camera.inputs is None:
            return  # came while the subscription was being taken down
        stats = camera.stats
        stats.count("received")
        stats.last_received = time.monotonic()
        check = check_image if hasattr(message, "encoding") else check_compressed
        try:
            check(message)
        except FrameError as error:
            self._on_bad_frame(camera, error)
            return
        age = self._age_ms(message)
        if age is not None:
            stats.time({"transport": age})
            if 0 < self._settings.max_age_ms < age:
                stats.count("stale")
                return
        if self._frames.put(index, _Frame(message, received)) is not None:
            stats.count("replaced")

    def _process(self, segmenter: Segmenter, taken: Sequence[tuple[int, _Frame]]) -> None:
        started = time.perf_counter()
        pictures = []
        for index, frame in taken:
            camera = self._cameras[index]
            camera.stats.time({"wait": 1e3 * (started - frame.received)})
            raw = hasattr(frame.message, "encoding")
            try:
                image, channels = (decode_image if raw else decode_compressed)(frame.message)
            except FrameError as error:
                self._on_bad_frame(camera, error)
                continue
            pictures.append((camera, frame, image, channels))
        decode = 1e3 * (time.perf_counter() - started) / len(taken)
        try:
            results = segmenter.segment_batch([Frame(p[2], channels=p[3]) for p in pictures])
        except FrameError as error:  # of one of them; which, a backend does not say
            for camera, *_ in pictures:
                self._on_bad_frame(camera, error)
            return
        except Exception:
            for camera, *_ in pictures:  # the device has failed: none of them is served
                camera.stats.count("discarded")
            raise
        for (camera, frame, image, channels), masks in zip(pictures, results, strict=True):
            masks.timings.pop("total")
            camera.stats.time({"decode": decode, **masks.timings})
            self._deliver(camera, frame, image, channels, masks, segmenter.labels)

    def _deliver(
        self, camera: _Camera, frame: _Frame, image: Any, channels: Any, masks: Any, labels: Any
    ) -> None:
        settings, header = self._settings, frame.message.header
        age = self._age_ms(frame.message)
        if age is not None and 0 < settings.max_age_ms < age:
            camera.stats.count("late")
            return
        started = time.perf_counter()
        inputs = camera.inputs
        info = inputs.info if inputs is not None else None
        try:
            camera.outputs.publish_masks(masks, header, info)
            if camera.grid is not None and info is None:
                raise FrameError("no grid: no camera_info has come")
            if camera.grid is not None:
                camera.grid.publish(masks, header, info, settings)
        except FrameError as error:
            self._warn(camera.name, f"not all is published: {error}")
        done = time.perf_counter()
        stages = {"publish": 1e3 * (done - started), "node": 1e3 * (done - frame.received)}
        age = self._age_ms(frame.message)
        if age is not None:
            stages["latency"] = age
            camera.stats.newest_stamp_ns = _stamp_ns(header)
        camera.stats.time(stages)
        camera.stats.count("published")
        camera.outputs.publish_overlay(
            image, channels, masks, labels, settings.overlay_alpha, header
        )

    def _on_bad_frame(self, camera: _Camera, error: FrameError) -> None:
        camera.stats.count("bad")
        self._warn(camera.name, f"bad frame: {_one_line(error)}")

    def _age_ms(self, message: Any) -> float | None:
        """Time since the stamp on the clock that stamps frames; None if there is no stamp."""
        stamp = _stamp_ns(message.header)
        return (self.get_clock().now().nanoseconds - stamp) / 1e6 if stamp else None

    def _on_failed(self) -> None:
        """In the executor, which owns the lifecycle: the inference thread has failed."""
        error = self._engine.failure if self._engine is not None else None
        if isinstance(error, DeeplabError):
            self.get_logger().error(f"the backend failed: {_one_line(error)}; configure again")
        elif error is not None:
            self.get_logger().error("".join(traceback.format_exception(error)))
        if self._active:
            self.trigger_deactivate()  # which returns ERROR: by way of on_error to unconfigured

    # Parameters, service, diagnostics.

    def _declare(self) -> Settings:
        for parameter in fields(Settings):
            metadata = parameter.metadata
            descriptor = ParameterDescriptor(
                description=metadata["description"],
                additional_constraints=", ".join(metadata["choices"]),
                read_only=metadata["when"] == "start",
            )
            if metadata["bounds"]:
                low, high = metadata["bounds"]
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=low, to_value=high)
                ]
            default = [""] if parameter.default == () else parameter.default
            self.declare_parameter(parameter.name, default, descriptor)
        names = [parameter.name for parameter in fields(Settings)]
        return Settings.from_values({p.name: p.value for p in self.get_parameters(names)})

    def _on_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        known = {parameter.name for parameter in fields(Settings)}
        new = {p.name: p.value for p in parameters if p.name in known}
        old = {name: getattr(self._settings, name) for name in known}
        try:
            settings = Settings.from_values({**old, **new})
            for name, when in changed(self._settings, settings).items():
                if when == "cleanup" and self._engine is not None:
                    raise ParameterError(f"{name} needs `cleanup` before it can change")
                if when == "deactivate" and self._active:
                    raise ParameterError(f"{name} needs `deactivate` before it can change")
            if self._engine is not None:
                self._engine.apply(settings)
        except DeeplabError as error:
            return SetParametersResult(successful=False, reason=_one_line(error))
        self._settings = settings
        if self._active and new.keys() & {"drivable_classes", "object_classes"}:
            self._publish_labels()
        return SetParametersResult(successful=True)

    def _publish_labels(self) -> None:
        assert self._engine is not None
        header = Header(stamp=self.get_clock().now().to_msg())
        for camera in self._cameras:
            camera.outputs.publish_labels(self._engine.segmenter.labels, header)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        if request.data != self._enabled:
            self._enabled = request.data
            if self._active:
                (self._listen if self._enabled else self._stop_listening)()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled"
        return response

    def _publish_diagnostics(self) -> None:
        now = self.get_clock().now()
        device = ""
        if self._engine is not None:
            self._engine.watch()
            device = self._engine.segmenter.info.device
        statuses = [self._engine_status()]
        for camera in self._cameras:
            settings = self._settings
            listening = camera.inputs is not None
            statuses.append(
                camera.report.make(
                    listening, now.nanoseconds, settings.max_age_ms, settings.expected_rate_hz
                )
            )
        message = DiagnosticArray()
        message.header.stamp = now.to_msg()
        message.status = [
            DiagnosticStatus(
                level=bytes([status.level]),
                name=status.name,
                message=status.message,
                hardware_id=device,
                values=[KeyValue(key=k, value=v) for k, v in status.values.items()],
            )
            for status in statuses
        ]
        self._diagnostics.publish(message)

    def _engine_status(self) -> Status:
        status = Status(f"{NODE_NAME}: engine")
        if self._engine is not None:
            state = "active" if self._active else "inactive"
            status.values = {"state": state, "enabled": str(self._enabled).lower()}
            self._engine.report(status)
        elif self._failure is not None:
            status.add_problem(LEVEL_ERROR, f"the backend failed: {_one_line(self._failure)}")
        else:
            status.problems.append("not configured")
        return status

    def _log(self, text: str) -> None:
        self.get_logger().info(" ".join(text.split()))

    def _warn(self, camera: str, text: str) -> None:
        """Log a warning; one that begins the same, up to its colon, not oftener than every 5 s."""
        key = f"{camera}/{text.partition(':')[0]}"
        now = time.monotonic()
        if now - self._warned.get(key, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._warned[key] = now
            self.get_logger().warning(f"{camera}: {text}" if camera else text)


def _stamp_ns(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def main(args: Sequence[str] | None = None) -> int:
    """The executable ``segmenter_node``: run until SIGINT or SIGTERM.

    Returns:
        0, or 1 after one line on stderr if a parameter given at start cannot be taken.
    """
    stopped = threading.Event()
    # Signals may come twice (launch sends SIGINT after the terminal did): only a flag is set.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopped.set())
    rclpy.init(
        args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO
    )
    try:
        try:
            node = SegmenterNode(stopped)
        except (DeeplabError, ParameterException) as error:
            print(f"segmenter_node: {_one_line(error)}", file=sys.stderr)
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if node.get_parameter("autostart").value and node.trigger_configure() == SUCCESS:
            node.trigger_activate()
        spin = GuardedSpin(executor, node.get_logger())
        while not stopped.is_set():
            spin.once(0.1)
        node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
        # The interpreter takes its handlers away before it ends; a late signal would kill it then.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
