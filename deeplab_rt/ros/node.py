"""The lifecycle node ``deeplab``: camera images in, masks of the same moment out.

``configure`` loads the model, ``activate`` subscribes and publishes, ``deactivate`` stops and keeps
what is loaded, ``cleanup`` frees it. The way of a frame is in :mod:`deeplab_rt.ros.camera`.
docs/ros.md lists topics, services and parameters.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from deeplab_rt.errors import DeeplabError, one_line
from deeplab_rt.ros import transport
from deeplab_rt.ros.camera import Camera
from deeplab_rt.ros.diagnostics import ERROR as LEVEL_ERROR
from deeplab_rt.ros.diagnostics import Status
from deeplab_rt.ros.engine_policy import EnginePolicy
from deeplab_rt.ros.ground_output import (
    GroundThread,
    ParameterPose,
    PoseSource,
    listen_to_transforms,
)
from deeplab_rt.ros.health import HealthPublisher
from deeplab_rt.ros.launch_arguments import given_parameters, unknown_parameters
from deeplab_rt.ros.node_parameters import declare
from deeplab_rt.ros.parameters import ParameterError, Settings, changed
from deeplab_rt.ros.spin import GuardedSpin
from deeplab_rt.worker import InferenceWorker

NODE_NAME = "deeplab"
STOP_S = 1.5  # the longest that stopping waits for the frame in the network
WAIT_S = 3.0  # after the start without `configure`, the node says that it waits for it

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


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
        self._cameras: list[Camera] = []
        self._worker: InferenceWorker | None = None  # while the node is configured
        self._policy: EnginePolicy | None = None
        self._configured = ExitStack()  # undoes what configuring did
        self._activated = ExitStack()  # undoes what activating did
        self._failure = ""  # why the last transition failed
        self._waiting_since: float | None = time.monotonic()  # for the first `configure`
        self._finalised = False
        self._active = False
        self._enabled = True
        self._settings = declare(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._health = HealthPublisher(self)
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
        result = self._guarded(self._free, state)
        self._finalised = result == SUCCESS
        return result

    def shut_down(self) -> None:
        """Free everything, unless the lifecycle has come to its end already."""
        if not self._finalised:
            self.trigger_shutdown()

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node is unconfigured and can be configured again."""
        result = self._guarded(self._free, state)
        self._finalised = result != SUCCESS  # the lifecycle's end, where not even that worked
        return result

    def _guarded(
        self, step: Callable[[LifecycleState], TransitionCallbackReturn], state: LifecycleState
    ) -> TransitionCallbackReturn:
        try:
            return step(state)
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self._failure = f"{state.label} failed: {one_line(error)}"
            return ERROR

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        names = self._settings.camera_names
        self._failure, self._waiting_since = "", None
        with ExitStack() as stack:
            worker = InferenceWorker(len(names), self._failed.trigger)
            stack.callback(self._close_worker, worker)
            policy = EnginePolicy(self._settings, worker, self._log)
            stack.callback(policy.close)
            try:
                policy.open(self._stopping)
            except DeeplabError as error:
                return self._refuse("configure", error)
            cameras: list[Camera] = []
            for index, name in enumerate(names):
                cameras.append(Camera(self, index, name, worker, lambda: self._settings))
                stack.callback(cameras[-1].outputs.close)
            self._worker, self._policy, self._cameras = worker, policy, cameras
            self._configured = stack.pop_all()
        segmenter, info = worker.segmenter, worker.segmenter.info
        self._log(
            f"model {segmenter.model.name}, {info.name} {info.version} on {info.device}, "
            f"{info.precision}, input {info.input_size} ({segmenter.reason})"
        )
        return super().on_configure(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._worker is None or self._worker.failure is not None:
            return ERROR
        with ExitStack() as stack:
            try:
                for camera in self._cameras:  # last, when nothing is on its way to their topics
                    stack.callback(camera.deactivate)
                poses, ground = self._pose_source(stack)
                for camera in self._cameras:
                    camera.activate(poses, ground)
                stack.callback(self._stop_listening)
                if self._enabled:  # what comes is received when this callback has returned
                    self._listen()
            except DeeplabError as error:
                return self._refuse("activate", error)
            super().on_activate(state)
            self._publish_labels()
            self._activated = stack.pop_all()
        self._active = True
        self._failure = ""
        return SUCCESS

    def _refuse(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        self._failure = f"cannot {transition}: {one_line(error)}"
        self.get_logger().error(self._failure)
        return FAILURE

    def _pose_source(self, stack: ExitStack) -> tuple[PoseSource, GroundThread | None]:
        """Where the cameras' poses come from, and the thread that waits for them."""
        settings = self._settings
        if not settings.grid_tf or not (settings.publish_grid or settings.publish_free_space):
            return ParameterPose(lambda: self._settings), None
        poses, unregister = listen_to_transforms(self, lambda: self._settings)
        stack.callback(unregister)
        ground = GroundThread(self.get_logger().error)
        stack.callback(ground.close)
        stack.callback(poses.close)
        return poses, ground

    def _deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._activated.close()
        super().on_deactivate(state)
        return SUCCESS if self._worker is not None and self._worker.failure is None else ERROR

    def _free(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._activated.close()
        self._configured.close()
        self._worker, self._policy, self._cameras = None, None, []
        return SUCCESS

    def _close_worker(self, worker: InferenceWorker) -> None:
        if not worker.close(STOP_S):
            self.get_logger().error(f"a frame has been in the network for more than {STOP_S} s")
        if worker.failure is not None:
            self._failure = f"the backend failed: {one_line(worker.failure)}"

    def _listen(self) -> None:
        for camera in self._cameras:
            camera.listen()

    def _stop_listening(self) -> None:
        for camera in self._cameras:
            camera.stop_listening()
        if self._worker is None:
            return
        for job in self._worker.clear():
            job.discard()
        if not self._worker.wait_idle(STOP_S):
            self.get_logger().error(f"a frame has been in the network for more than {STOP_S} s")

    def _on_failed(self) -> None:
        """In the executor, which owns the lifecycle: the worker has failed."""
        error = self._worker.failure if self._worker is not None else None
        if isinstance(error, DeeplabError):
            self.get_logger().error(f"the backend failed: {one_line(error)}; configure again")
        elif error is not None:
            self.get_logger().error("".join(traceback.format_exception(error)))
        if self._active:
            self.trigger_deactivate()  # which returns ERROR: by way of on_error to unconfigured

    # Parameters, service, diagnostics.

    def _on_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        new = {p.name: p.value for p in parameters if hasattr(self._settings, p.name)}
        try:
            settings = Settings.from_values({**vars(self._settings), **new})
            for name, when in changed(self._settings, settings).items():
                if when == "cleanup" and self._worker is not None:
                    raise ParameterError(f"{name} needs `cleanup` before it can change")
                if when == "deactivate" and self._active:
                    raise ParameterError(f"{name} needs `deactivate` before it can change")
            if self._policy is not None:
                self._policy.apply(settings)
        except DeeplabError as error:
            return SetParametersResult(successful=False, reason=one_line(error))
        self._settings = settings
        if self._active and new.keys() & {"drivable_classes", "object_classes"}:
            self._publish_labels()
        return SetParametersResult(successful=True)

    def _publish_labels(self) -> None:
        assert self._worker is not None
        header = Header(stamp=self.get_clock().now().to_msg())
        for camera in self._cameras:
            camera.outputs.publish_labels(self._worker.segmenter.labels, header)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        if request.data != self._enabled:
            self._enabled = request.data
            if self._active:
                (self._listen if self._enabled else self._stop_listening)()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled"
        return response

    def _publish_diagnostics(self) -> None:
        device = ""
        if self._worker is not None and self._policy is not None:
            self._policy.watch()
            device = self._worker.segmenter.info.device
        statuses = [self._engine_status(), *(camera.status() for camera in self._cameras)]
        self._health.publish(statuses, device)
        self._say_that_it_waits()

    def _engine_status(self) -> Status:
        status = Status(f"{self.get_fully_qualified_name().lstrip('/')}: engine")
        if self._worker is not None and self._policy is not None:
            state = "active" if self._active else "inactive"
            status.values = {"state": state, "enabled": str(self._enabled).lower()}
            self._policy.report(status)
        elif self._finalised:
            status.add_problem(LEVEL_ERROR, "finalised: it was shut down; start it again")
        elif not self._failure:
            status.problems.append("not configured")
        if self._failure:
            status.add_problem(LEVEL_ERROR, self._failure)
        return status

    def _say_that_it_waits(self) -> None:
        """Once, where nobody has configured the node soon after its start."""
        if self._waiting_since and time.monotonic() - self._waiting_since > WAIT_S:
            self._waiting_since = None
            name = self.get_fully_qualified_name()
            self._log(
                f"waiting for `configure`: run `ros2 lifecycle set {name} configure` and then "
                "`activate`, or start the node with `-p autostart:=true`"
            )

    def _log(self, text: str) -> None:
        self.get_logger().info(" ".join(text.split()))


def main(args: Sequence[str] | None = None) -> int:
    """The executable ``segmenter_node``: run until SIGINT or SIGTERM.

    Returns:
        0, or 1 after one line on stderr if a parameter given at start cannot be taken.
    """
    stopped = threading.Event()
    # Signals may come twice (launch sends SIGINT after the terminal did): only a flag is set.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopped.set())
    arguments = sys.argv if args is None else list(args)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # of a class for each kind of wrong argument
        print(f"segmenter_node: {one_line(error)}", file=sys.stderr)
        return 1
    try:
        try:
            node = SegmenterNode(stopped)
            given = given_parameters(arguments, node.get_namespace(), node.get_name())
        except (DeeplabError, ParameterException, NameValidationException) as error:
            print(f"segmenter_node: {one_line(error)}", file=sys.stderr)
            return 1
        for line in unknown_parameters(given):
            node.get_logger().warning(line)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spin = GuardedSpin(executor, node.get_logger())
        if node.get_parameter("autostart").value and node.trigger_configure() == SUCCESS:
            node.trigger_activate()
        while not stopped.is_set():
            spin.once(0.1)
        node.shut_down()
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
