"""The Fast DDS profile: found, well formed, and asked for where it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from deeplab_rt.errors import StreamError
from deeplab_rt.ros import transport


def test_profile_holds_large_frames() -> None:
    text = transport.profile_path().read_text(encoding="utf-8")
    root = ET.fromstring(text)
    space = {"p": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    segment = int(root.findtext(".//p:segment_size", "", space))
    message = int(root.findtext(".//p:maxMessageSize", "", space))
    assert message > 1920 * 1080 * 3
    assert segment >= 4 * message


@pytest.mark.parametrize(
    ("distribution", "name"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("rolling", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_variable_of_each_distribution(
    monkeypatch: pytest.MonkeyPatch, distribution: str, name: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    environment = transport.profile_environment()
    assert environment == {name: str(transport.profile_path())}
    assert transport.profile_is_set(environment)
    assert not transport.profile_is_set({})
    assert not transport.profile_is_set({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"})
    assert transport.profile_is_set({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})


def test_profile_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "share" / "deeplab_rt" / transport.PROFILE
    installed.parent.mkdir(parents=True)
    installed.write_bytes(transport.profile_path().read_bytes())
    monkeypatch.setattr(
        transport, "__file__", str(tmp_path / "lib" / "deeplab_rt" / "ros" / "t.py")
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nothing"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(["", str(tmp_path)]))
    assert transport.profile_path() == installed
    installed.unlink()
    with pytest.raises(StreamError, match=r"fastdds_large_frames.xml is not in .*install"):
        transport.profile_path()


def test_pure_modules_load_nothing_of_ros() -> None:
    modules = "transport", "parameters", "diagnostics"
    imports = ", ".join(f"deeplab_rt.ros.{module}" for module in modules)
    code = f"import sys, {imports}; print('rclpy' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
