"""The tests for a real GPU, run over the doubles: they must work when somebody first has one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_rt.backends.tensorrt import platforms

ROOT = Path(__file__).parents[3]


def run(**environment: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_gpu_tests_pass_over_the_emulation_and_leave_a_page(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    page = tmp_path / "page.txt"
    text = run(DEEPLAB_RT_EMULATED_GPU="1", DEEPLAB_RT_GPU_REPORT=str(page))
    passed = re.search(r"(\d+) passed", text)
    assert passed and int(passed[1]) >= 20
    lines = page.read_text()
    for piece in (
        "GPU: Emulated Orin (8.7, 16 SMs)", "driver: knows CUDA 13", "numpy: ", "TensorRT: ",
        f"tests: {passed[1]} passed, 0 failed", "ms p50: copy", "layers, ", "cuda_graph: on",
        "EMULATED: this page says nothing of any GPU",
    ):  # fmt: skip
        assert piece in lines, lines


def test_gpu_tests_are_skipped_with_a_reason_without_a_gpu() -> None:
    text = run(CUDA_VISIBLE_DEVICES="", DEEPLAB_RT_EMULATED_GPU="")
    assert "these tests need a GPU: " in text and "passed" not in text


# ---- The command that installs and runs them --------------------------------------------------------


def dry_run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """With no site packages: the machine has nothing but Python."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "tests/gpu/run.py", "--dry-run", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("platform", platforms.PLATFORMS)
def test_the_command_installs_what_the_platform_needs(platform: str) -> None:
    done = dry_run("--platform", platform)
    assert done.returncode == 0, done.stderr
    venv, _, install, test = done.stdout.splitlines()
    assert ("--system-site-packages" in venv) == platform.startswith("jetpack")
    assert f"'.[cpu,gpu-test,{platform}]'" in install
    assert ("'numpy<2'" in install) == (platform == "jetpack6")
    assert test.endswith("-m pytest -m gpu tests/gpu")


def test_numpy_stays_below_2_on_humble() -> None:
    assert "'numpy<2'" in dry_run("--platform", "cuda12", ROS_DISTRO="humble").stdout


def test_an_unknown_machine_is_asked_for_its_platform() -> None:
    done = dry_run()
    assert done.returncode == 2
    assert "there is no NVIDIA driver" in done.stderr and "PLATFORM=jetpack6|" in done.stderr
    assert "unknown platform 'x'" in dry_run("--platform", "x").stderr


@pytest.mark.parametrize(
    ("release", "cuda", "expected"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1", 12, "jetpack6"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", 13, "jetpack7"),
        ("# R39 (release), REVISION: 0.1, GCID: 1", 13, "jetpack7"),
        ("# R32 (release), REVISION: 7.1, GCID: 1", 10, None),
        ("", 12, "cuda12"),
        ("", 13, "cuda13"),
        ("", 11, None),
    ],
)
def test_the_platform_is_guessed(
    tmp_path: Path, release: str, cuda: int, expected: str | None
) -> None:
    if release:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "nv_tegra_release").write_text(release)
    platform, why = platforms.guess(tmp_path, cuda)
    assert platform == expected and why


@pytest.mark.parametrize(
    ("platform", "python", "glibc"), [("jetpack6", "3.10", 35), ("jetpack7", "3.12", 39)]
)
def test_pip_finds_every_wheel_for_a_jetson(
    platform: str, python: str, glibc: int, tmp_path: Path
) -> None:
    """pip resolves for that machine here, downloads nothing and installs nothing."""
    wanted = requirements("cpu", "gpu-test", platform)
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--target", str(tmp_path), "--only-binary=:all:", "--python-version", python]
    command += [
        "--implementation",
        "cp",
        *(f"--platform=manylinux_2_{minor}_aarch64" for minor in range(glibc, 16, -1)),
    ]
    command += ["--report", str(tmp_path / "report.json")]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=300)
    if done.returncode and ("connection" in done.stderr.lower() or "Retrying" in done.stderr):
        pytest.skip(f"pip cannot reach its index: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    found = {
        one["metadata"]["name"].lower(): one["metadata"]["version"] for one in report["install"]
    }
    assert int(found["cuda-bindings"].split(".")[0]) == (12 if platform == "jetpack6" else 13)
    if platform == "jetpack6":
        assert found["numpy"].startswith("1."), "cv_bridge of Humble knows NumPy 1 alone"
    assert not [name for name in found if name.startswith(("tensorrt", "torch", "ros-"))]


def requirements(*extras: str) -> list[str]:
    """What ``pip install '.[EXTRAS]'`` asks for, from setup.py."""
    script = (
        "import json, setuptools; setuptools.setup = lambda **k: print(json.dumps(k)); import setup"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        *found["install_requires"],
        *(one for e in extras for one in found["extras_require"][e]),
    ]
