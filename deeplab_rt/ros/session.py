"""A whole drive over ROS 2 on this machine: a camera, the node and a probe, each a process.

What ``deeplab_rt demo`` and the benchmarks run. The three meet in a domain of their own that does not
leave the machine, with the transport profile that large frames need, so nothing of a network that is
running is disturbed.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from deeplab_rt.errors import DeeplabError, StreamError
from deeplab_rt.frame import Size
from deeplab_rt.ros.latency_probe import LatencyProbe
from deeplab_rt.ros.transport import profile_environment

STOP_S = 5.0  # how long a child may take to end before it is killed
LATE_S = 1.0  # how long masks are waited for after the last frame
# Run a module as -m does, in a process that is sent SIGTERM when its parent has died, even by kill -9
# (PR_SET_PDEATHSIG is 1, prctl(2)). In the child itself: a preexec_fn is not safe beside threads.
_TIED = (
    "import ctypes, runpy, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[\w.]+\]: ")


class NodeProcessError(DeeplabError):
    """A process that the drive needs has failed; the message ends with its last words."""


@contextmanager
def private_network() -> Iterator[None]:
    """Give this process and its children a ROS domain of their own, on this machine only.

    Domains 1 to 101 are those whose ports no Linux machine hands out to others
    (https://docs.ros.org/en/kilted/Concepts/Intermediate/About-Domain-ID.html).
    """
    changes = {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",  # Iron and later
        "ROS_LOCALHOST_ONLY": "1",  # Humble; later ones obey it too, with a warning
        **profile_environment(),
    }
    if os.environ.get("ROS_DISTRO", "") != "humble":
        del changes["ROS_LOCALHOST_ONLY"]
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def node_parameters(
    model: str, backend: str, precision: str, size: tuple[int, int] | None
) -> dict[str, Any]:
    """The node's parameters for what the program's options of the same names say."""
    return {
        "model": model,
        "backend": backend,
        "precision": precision,
        "input_size": str(Size(*size)) if size else "",
    }


class NodeProcess:
    """A Python module run as a process of its own with ROS parameters; its output goes to a file.

    It ends when the thread that started it ends, whatever ended that.
    """

    def __init__(
        self,
        module: str,
        parameters: Mapping[str, Any],
        folder: Path,
        name: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            module: as in ``python -m``.
            parameters: ROS parameters.
            folder: for its log and its parameter file.
            name: what errors and its files call it; the module's last name if empty.
            arguments: further ROS arguments, such as ``("-r", "__ns:=/front")``.
            environment: variables beside those of this process.
        """
        self.name = name or module.rpartition(".")[2]
        self.log = folder / f"{self.name}.log"
        # A file, since on a command line ROS would take the text "0" for a number.
        settings = folder / f"{self.name}.yaml"
        settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}))
        command = [sys.executable, "-c", _TIED, module, "--ros-args", *arguments]
        if parameters:
            command += ["--params-file", str(settings)]
        self.started = time.time()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def check(self, may_end: bool = False) -> None:
        """Do nothing while it runs.

        Args:
            may_end: whether it may have ended well.

        Raises:
            NodeProcessError: it has ended.
        """
        code = self.process.poll()
        if code is not None and not (may_end and code == 0):
            raise self.error(f"has ended (exit code {code})")

    def error(self, what: str) -> NodeProcessError:
        """An error about it; its whole output goes to stderr, the last line into the message."""
        output = self.output.strip()
        lines = output.splitlines() or ["it said nothing"]
        if len(lines) > 1:
            print(output, file=sys.stderr)
        words = _LOG_PREFIX.sub("", lines[-1])
        return NodeProcessError(f"{self.name} {what}: {words.removeprefix(f'{what}: ')}")

    def stop(self) -> None:
        """End it: ask first, then insist."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@contextmanager
def local_session(
    camera: Mapping[str, Any],
    node: Mapping[str, Any],
    cameras: Sequence[str] = ("",),
    keep_masks: bool = True,
) -> Iterator[LocalSession]:
    """Start everything; at the end of the block everything is ended, whatever happened.

    Must be entered in the main thread: SIGTERM is turned into ``KeyboardInterrupt`` meanwhile.

    Args:
        camera: parameters of ``camera_node`` (``deeplab_rt.ros.camera_node``); ``frames`` is how long the
            drive is.
        node: parameters of ``segmenter_node``.
        cameras: names of several cameras with those parameters; one empty name for one camera.
        keep_masks: whether to keep the masks.
    """

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with ExitStack() as stack:
        before = signal.signal(signal.SIGTERM, interrupt)
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deeplab_rt_")))
        stack.enter_context(private_network())
        # The node first: it is the one that takes longest to be ready.
        parameters = {**node, **({"cameras": list(cameras)} if any(cameras) else {})}
        segmenter = stack.enter_context(NodeProcess("deeplab_rt.ros.node", parameters, folder))
        probe = stack.enter_context(LatencyProbe(cameras=cameras, keep_masks=keep_masks))
        sources = {}
        for name in cameras:
            log = folder / f"published{name}.csv"
            source = NodeProcess(
                "deeplab_rt.ros.camera_node",
                {"wait_for_subscriber": True, "preload": True, **camera, "log": str(log)},
                folder,
                name=f"camera_node_{name}" if name else "camera_node",
                arguments=("-r", f"__ns:=/{name}"),
            )
            sources[name] = (stack.enter_context(source), log)
        yield LocalSession(segmenter, sources, probe)


class LocalSession:
    """A running drive; made by :func:`local_session`.

    Attributes:
        segmenter: the node's process.
        probe: what receives its masks.
    """

    def __init__(
        self,
        segmenter: NodeProcess,
        cameras: Mapping[str, tuple[NodeProcess, Path]],
        probe: LatencyProbe,
    ) -> None:
        """Take what :func:`local_session` has started.

        Args:
            segmenter: the node's process.
            cameras: name -> process, and the file to which it will write what it has published.
            probe: receives the masks.
        """
        self.segmenter = segmenter
        self.probe = probe
        self._cameras = cameras

    def run(self, on_progress: Callable[[int], None] = lambda masks: None) -> None:
        """Configure and activate the node, let the cameras run to their end, take in what comes.

        ``probe.measurements`` are complete afterwards.

        Args:
            on_progress: called with the number of masks received so far.

        Raises:
            NodeProcessError: the node or a camera failed.
            StreamError: a camera published nothing.
        """
        for transition in ("configure", "activate"):
            if not self.probe.change_state(transition, self._check):
                raise self.segmenter.error(f"cannot {transition}")
        self.probe.spin_until(self._sees_masks)
        measurements = self.probe.measurements

        def ended() -> bool:
            self._check()
            on_progress(sum(len(one.arrivals) for one in measurements.values()))
            return all(camera.process.poll() is not None for camera, _ in self._cameras.values())

        self.probe.spin_until(ended)
        self.probe.spin_for(LATE_S)
        self._check()
        for name, (camera, log) in self._cameras.items():
            lines = log.read_text().splitlines() if log.exists() else []
            if not lines:
                raise StreamError(f"{camera.name} published no frame")
            pairs = (line.split(",") for line in lines)
            measurements[name].published = [(int(index), int(stamp)) for index, stamp in pairs]

    def _sees_masks(self) -> bool:
        self._check()
        return self.probe.sees_masks_topics()

    def _check(self) -> None:
        self.segmenter.check()
        for camera, _ in self._cameras.values():
            camera.check(may_end=True)
