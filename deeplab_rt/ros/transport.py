"""The Fast DDS profile that camera frames need, and whether it is set.

Pure: imports nothing of ROS. With its defaults Fast DDS loses 640x480 colour frames at best effort;
``config/fastdds_large_frames.xml`` says why and fixes it.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from deeplab_rt.errors import StreamError

PROFILE = Path("config") / "fastdds_large_frames.xml"
_NEW, _OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


def profile_path() -> Path:
    """The profile beside the source tree, or in the share folder of an installed package.

    Raises:
        StreamError: it is in none of them.
    """
    places = list(_places())
    for place in places:
        if (place / PROFILE).is_file():
            return place / PROFILE
    looked = ", ".join(map(str, places))
    raise StreamError(f"{PROFILE} is not in {looked}; install deeplab_rt again")


def profile_environment() -> dict[str, str]:
    """Environment variable for every process that sends or receives frames.

    Fast DDS 2 (Humble, Jazzy) reads one name; Fast DDS 3 (Kilted) reads another and complains of the
    old one.
    """
    return {_OLD if _has_fast_dds_2() else _NEW: str(profile_path())}


def profile_is_set(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether large frames get through: a profile (ours or the user's own) is set, or the middleware
    is one that needs none.
    """
    middleware = environment.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    names = (_OLD,) if _has_fast_dds_2() else (_NEW, _OLD)
    return "fastrtps" not in middleware or any(environment.get(name) for name in names)


def _has_fast_dds_2() -> bool:
    """By the distribution that is sourced or, where there is none, by the wheels that are installed."""
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        return distribution in ("humble", "iron", "jazzy")
    try:
        importlib.metadata.version("ros-jazzy-rclpy")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _places() -> Iterator[Path]:
    yield Path(__file__).resolve().parent.parent.parent
    for prefix in (sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        if prefix:
            yield Path(prefix) / "share" / "deeplab_rt"
