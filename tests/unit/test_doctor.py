"""What doctor finds here, and on machines that are made to look otherwise."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest

from deeplab_rt import doctor
from deeplab_rt.backends.tensorrt import engine_store
from deeplab_rt.commands import main
from deeplab_rt.doctor import Finding
from deeplab_rt.models import DEFAULT_MODEL, MANIFEST, Model, model_names


def find(name: str) -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.name == name]


def without(monkeypatch: pytest.MonkeyPatch, *gone: str) -> None:
    """Make distributions look not installed."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in gone:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_every_lack_has_its_fix() -> None:
    findings = doctor.examine()
    names = {finding.name for finding in findings}
    assert {"machine", "GPU", "cuda-python", "TensorRT", "OpenVINO", "cache", "cameras"} <= names
    assert {"ROS 2", "DDS profile", "windows"} <= names
    for finding in findings:
        assert finding.found and "\n" not in finding.found
        assert bool(finding.fix) == (finding.state != "ok"), finding


def test_program_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    expected = 0 if doctor.can_run(doctor.examine()) else 1
    assert main(["doctor"]) == expected
    text = capsys.readouterr().out
    assert "OpenVINO" in text and "fix: " in text
    assert main(["doctor", "--json"]) == expected
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] == (expected == 0)
    assert all(set(one) == {"name", "state", "found", "fix"} for one in result["findings"])


def test_no_backend_at_all_is_an_error_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "openvino")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "neither a CPU nor a GPU backend can run" in err
    assert "fix: pip install openvino" in out


def test_a_corrupt_model_is_named(
    palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(palette_model.directory, tmp_path / "models" / "palette")
    (tmp_path / "models" / "palette" / "model.onnx").write_bytes(b"half a file")
    monkeypatch.setenv("DEEPLAB_RT_MODELS", str(tmp_path / "models"))
    (finding,) = (one for one in find("model") if "palette" in one.found)
    assert finding.state == "warning" and "corrupt" in finding.found
    assert "deeplab_rt export" in finding.fix


@pytest.mark.skipif(DEFAULT_MODEL not in model_names(), reason="no model is shipped")
def test_a_broken_default_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / DEFAULT_MODEL).mkdir()
    (tmp_path / DEFAULT_MODEL / MANIFEST).write_text("format: 99")
    monkeypatch.setenv("DEEPLAB_RT_MODELS", str(tmp_path))
    findings = doctor.examine()
    assert not doctor.can_run(findings)
    assert [one.state for one in findings if one.name == "model"].count("error") == 1


def test_engines_for_other_machines_are_listed(
    palette_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path))
    target = engine_store.Target("tensorrt", "10.3.0", "NVIDIA Orin", "8.7")
    engine_store.save(engine_store.spec_of(palette_model, "fp32", None, 1, target), b"engine")
    (finding,) = find("engine for elsewhere")
    assert finding.found == "palette fp32 128x96 batch 1, NVIDIA Orin (8.7) with TensorRT 10.3.0"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "file" / "deeper"))
    (finding,) = find("cache")
    assert finding.state == "warning" and "DEEPLAB_RT_CACHE" in finding.fix


def test_ros_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert [one.found for one in (*find("ROS 2"), *find("ROS middleware"))] == [
        "jazzy (sourced)",
        "rmw_cyclonedds_cpp",
    ]


def test_ros_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    without(monkeypatch, "ros-rclpy", "ros-jazzy-rclpy")
    (finding,) = find("ROS 2")
    assert finding.state == "missing" and ".[ros]" in finding.fix
    assert find("ROS middleware") == []


def test_rclpy_without_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    without(monkeypatch, "ros-rmw-fastrtps-cpp", "ros-jazzy-rmw-fastrtps-cpp", "ros-jazzy-rclpy")
    if not find("ROS middleware"):
        pytest.skip("rclpy is not installed from PyPI here")
    (finding,) = find("ROS middleware")
    assert finding.state == "error" and finding.fix == "pip install ros-rmw-fastrtps-cpp"


def test_dds_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RMW_IMPLEMENTATION", "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    (finding,) = find("DDS profile")
    assert finding.state == "warning" and finding.fix.startswith("export FAST")
    variable, _, value = finding.fix.removeprefix("export ").partition("=")
    assert Path(value).is_file()
    monkeypatch.setenv(variable, value)
    assert find("DDS profile")[0].state == "ok"


def test_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = doctor.camera_findings(tmp_path)
    assert finding.state == "missing"
    for name in ("video0", "video10", "vbi0"):
        (tmp_path / name).write_text("")
    (finding,) = doctor.camera_findings(tmp_path)
    assert finding.state == "ok" and "video10" in finding.found and "vbi" not in finding.found
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("video0"))
    (finding,) = doctor.camera_findings(tmp_path)
    assert finding.state == "warning" and "usermod -aG video" in finding.fix
    assert "video10" not in finding.found


def test_jetson_by_its_release_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    }
    monkeypatch.setattr(doctor, "first_line", lambda path: lines.get(str(path), ""))
    assert find("JetPack")[0].found == (
        "JetPack 6 (L4T 36.4.3) on NVIDIA Jetson Orin Nano Developer Kit"
    )
