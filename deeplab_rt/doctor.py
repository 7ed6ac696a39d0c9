"""What this machine has and lacks for deeplab_rt, with the command that fixes each lack.

Packages are looked up by their metadata and the GPU is asked by its driver; only TensorRT is loaded,
since nothing else tells whether it can be.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from deeplab_rt import __version__
from deeplab_rt.backends.tensorrt import engine_store, platforms
from deeplab_rt.errors import DeeplabError
from deeplab_rt.files import cache_dir
from deeplab_rt.models import DEFAULT_MODEL, load_model, model_names
from deeplab_rt.options import GPU_PRECISIONS

State = Literal["ok", "warning", "missing", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: of the thing.
        state: ``ok``; ``warning`` (works, but not well); ``missing`` (only needed for what it is
            for); ``error`` (nothing works without it).
        found: what there is, in words.
        fix: the command or step that fixes it; empty where there is nothing to fix.
    """

    name: str
    state: State
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything, in the order in which it is printed."""
    findings: list[Finding] = []
    for check in (
        _machine,
        _gpu,
        _cuda_python,
        _tensorrt,
        _cpu_backend,
        _models,
        _engines,
        _cache,
        _ros,
        _transport,
        _windows,
        camera_findings,
    ):
        findings += check()
    if not any(f.state == "ok" for f in findings if f.name in ("OpenVINO", "engine")):
        fix = "pip install openvino"
        findings.append(Finding("backend", "error", "neither a CPU nor a GPU backend can run", fix))
    return findings


def can_run(findings: list[Finding]) -> bool:
    """Whether frames can be segmented at all."""
    return all(finding.state != "error" for finding in findings)


def _machine() -> Iterator[Finding]:
    system = _os_name()
    python = f"Python {platform.python_version()} in {sys.prefix}"
    yield Finding("machine", "ok", f"{system}, {platform.machine()}, {python}")
    yield Finding("deeplab_rt", "ok", f"{__version__} in {Path(__file__).parent}")
    if jetpack := _jetpack():
        yield Finding("JetPack", "ok", jetpack)


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _jetpack() -> str:
    """The L4T release of a Jetson, which is what a JetPack is; empty elsewhere."""
    release = first_line(Path("/etc/nv_tegra_release"))  # "# R36 (release), REVISION: 4.3, ..."
    board = first_line(Path("/proc/device-tree/model")).rstrip("\0")
    if not release:
        return ""
    major, _, rest = release.lstrip("# ").partition(" (release), REVISION: ")
    revision = rest.partition(",")[0]
    known = {"R35": "JetPack 5", "R36": "JetPack 6", "R38": "JetPack 7", "R39": "JetPack 7"}
    return (
        f"{known.get(major, 'Jetson Linux')} (L4T {major[1:]}.{revision}) on {board or 'a Jetson'}"
    )


def first_line(path: Path) -> str:
    """The first line of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""


def _gpu() -> Iterator[Finding]:
    from deeplab_rt.backends.tensorrt.probe import find_gpu

    try:
        gpu = find_gpu()
    except DeeplabError as error:
        fix = "on a machine with an NVIDIA GPU, install its driver (docs/install.md)"
        yield Finding("GPU", "missing", str(error), fix)
        return
    memory = "of its own"
    if gpu.integrated:
        memory = (
            "shared with the CPU (copied or read in place: timed at every start, see diagnostics)"
        )
    major, minor = gpu.capability
    board = f" on {gpu.board}" if gpu.board else ""
    text = (
        f"{gpu.name} ({major}.{minor}, {gpu.sms} SMs){board}, {gpu.memory / 2**30:.1f} GiB of memory "
        f"{memory}"
    )
    yield Finding("GPU", "ok", text)
    yield Finding("driver", "ok", "knows CUDA {}.{}".format(*gpu.cuda))
    platform, why = platforms.guess(cuda=gpu.cuda[0])
    if platform is None:
        fix = "docs/install.md has the machines that are known"
        yield Finding("GPU platform", "warning", why, fix)
    else:
        text = f"{platform}: `pip install '.[cpu,{platform}]'`, `make test-gpu PLATFORM={platform}`"
        yield Finding("GPU platform", "ok", f"{text} ({why})")


def _cuda_python() -> Iterator[Finding]:
    if version := _version("cuda-bindings"):
        yield Finding("cuda-python", "ok", version)
    else:
        fix = "pip install cuda-bindings (docs/install.md has the version for each machine)"
        yield Finding("cuda-python", "missing", "not installed; the GPU backend needs it", fix)


def _tensorrt() -> Iterator[Finding]:
    from deeplab_rt.backends.tensorrt import library

    try:
        yield Finding("TensorRT", "ok", str(library.load()))
    except DeeplabError as error:
        fix = "pip install tensorrt-rtx, or TensorRT as docs/install.md says"
        yield Finding("TensorRT", "missing", str(error).partition("; JetPack")[0], fix)


def _cpu_backend() -> Iterator[Finding]:
    if version := _version("openvino"):
        yield Finding("OpenVINO", "ok", f"{version}, for the CPU")
    else:
        yield Finding("OpenVINO", "missing", "not installed", "pip install openvino")


def _models() -> Iterator[Finding]:
    names = model_names()
    if DEFAULT_MODEL not in names:
        fix = "install deeplab_rt again, or set DEEPLAB_RT_MODELS to a directory that holds it"
        yield Finding("model", "error", f"the default model {DEFAULT_MODEL} is not here", fix)
    for name in names:
        try:
            model = load_model(name)
            for precision in model.files:
                model.file(precision)
        except DeeplabError as error:
            state: State = "error" if name == DEFAULT_MODEL else "warning"
            yield Finding("model", state, str(error), "restore it, or `deeplab_rt export` it anew")
            continue
        height, width = model.input_size
        size, files = f"{width}x{height}", ", ".join(model.files)
        yield Finding("model", "ok", f"{name}: {size}, {len(model.labels)} labels, files {files}")


def _engines() -> Iterator[Finding]:
    """Those of this machine; on one without a GPU, what lies in the store."""
    from deeplab_rt.backends.tensorrt import probe

    missing = probe.machine_lacks()
    stored = list(engine_store.stored())
    if missing:
        for engine in stored:
            yield Finding("engine for elsewhere", "ok", _describe(engine))
        return
    target = probe.target_here()
    for name in model_names():
        model = load_model(name)
        for precision in GPU_PRECISIONS:
            try:
                spec = engine_store.spec_of(model, precision, None, 1, target)
            except DeeplabError:
                continue  # the model does not come in it
            try:
                engine = engine_store.find(model, spec)
                engine.read()
            except DeeplabError as error:
                fix = engine_store.build_command(model, spec)
                yield Finding("engine", "missing", str(error), fix)
            else:
                yield Finding("engine", "ok", _describe(engine))


def _describe(engine: engine_store.Engine) -> str:
    spec = engine.spec
    height, width = spec.input_size
    return f"{spec.model} {spec.precision} {width}x{height} batch {spec.max_batch}, {spec.target}"


def _cache() -> Iterator[Finding]:
    path = cache_dir()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        yield Finding("cache", "ok", str(path))
    else:
        fix = "export DEEPLAB_RT_CACHE=DIRECTORY that can be written"
        found = f"{path} cannot be written: nothing compiled is kept"
        yield Finding("cache", "warning", found, fix)


def _ros() -> Iterator[Finding]:
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        yield Finding("ROS 2", "ok", f"{distribution} (sourced)")
    elif version := _version("ros-rclpy"):
        yield Finding("ROS 2", "ok", f"Kilted from PyPI (rclpy {version})")
    elif version := _version("ros-jazzy-rclpy"):
        yield Finding("ROS 2", "ok", f"Jazzy from PyPI (rclpy {version})")
    else:
        fix = "source /opt/ros/DISTRIBUTION/setup.bash, or pip install '.[ros]'"
        yield Finding("ROS 2", "missing", "not here; the node and demo need it", fix)
        return
    middleware = os.environ.get("RMW_IMPLEMENTATION")
    wheels = ("ros-rmw-fastrtps-cpp", "ros-jazzy-rmw-fastrtps-cpp")
    if not distribution and not any(map(_version, wheels)):
        fix = "pip install ros-rmw-fastrtps-cpp"
        yield Finding("ROS middleware", "error", "rclpy has none to run on", fix)
    else:
        default = "rmw_fastrtps_cpp (default)"
        yield Finding("ROS middleware", "ok", middleware or default)


def _transport() -> Iterator[Finding]:
    from deeplab_rt.ros.transport import profile_environment, profile_is_set

    if profile_is_set():
        yield Finding("DDS profile", "ok", "large frames get through")
        return
    try:
        ((variable, value),) = profile_environment().items()
    except DeeplabError as error:
        yield Finding("DDS profile", "warning", str(error), "install deeplab_rt again")
        return
    yield Finding(
        "DDS profile",
        "warning",
        "not set: Fast DDS loses 640x480 frames at best effort (the launch files and demo set it)",
        f"export {variable}={value}",
    )


def _windows() -> Iterator[Finding]:
    import cv2

    from deeplab_rt.streams.window import no_display

    lines = (line.strip() for line in cv2.getBuildInformation().splitlines())
    gui = next((line.partition(":")[2].strip() for line in lines if line.startswith("GUI:")), "")
    if gui == "NONE":
        fix = "pip uninstall opencv-python-headless; pip install opencv-python"
        yield Finding("windows", "warning", "this OpenCV was built without", fix)
    elif reason := no_display():
        fix = "webcam --view web, or set DISPLAY"
        yield Finding("windows", "warning", f"OpenCV {cv2.__version__}, but {reason}", fix)
    else:
        yield Finding("windows", "ok", f"OpenCV {cv2.__version__}, {gui or 'native'}")


def camera_findings(devices: Path = Path("/dev")) -> Iterator[Finding]:
    """What video devices there are, and whether this user may open them."""
    cameras = sorted(devices.glob("video[0-9]*"))
    shut = [camera for camera in cameras if not os.access(camera, os.R_OK | os.W_OK)]
    if not cameras:
        fix = "plug one in, or give webcam --device a URL or a file"
        yield Finding("cameras", "missing", "no /dev/video* here", fix)
    elif shut:
        names = ", ".join(map(str, shut))
        fix = "sudo usermod -aG video $USER, then log in again"
        yield Finding("cameras", "warning", f"not allowed to open {names}", fix)
    else:
        yield Finding("cameras", "ok", ", ".join(map(str, cameras)))


def _version(distribution: str) -> str:
    """Of an installed distribution; empty if it is not."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
