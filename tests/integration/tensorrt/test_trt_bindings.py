"""Every name of TensorRT and cuda-python that our code uses, in the real modules of several versions.

A removed name is found here and not on a vehicle. The binding modules of TensorRT come from PyPI and
are real; the library behind them is not there, so nothing is called: a stub satisfies the linker.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from host_gpu import HERE

PACKAGE = Path(__file__).parents[3] / "deeplab_rt" / "backends" / "tensorrt"
VERSIONS = {
    "10.3.0": "JetPack 6.1 and 6.2",
    "10.13.3.9": "JetPack 7.0 and 7.1, desktop",
    "10.16.1.11": "JetPack 7.2",
    "11.4.0.106": "desktop",
}
# What the variables of builder.py, loaded_engine.py and library.py hold.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "image": "ITensor",
    "tensor": "ITensor",
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "loaded": "ICudaEngine",
    "_context": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
}
OLDEST_CUDA_PYTHON = "12.8.0"
NOT_TENSORRT = {"error.path", "network.tensors", "network.enqueue"}


def attributes(path: Path) -> list[tuple[str, ...]]:
    """Every dotted name of a source file: ("trt", "DataType", "HALF") and so on."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name):
            names.append((node.id, *parts))
    return names


def tensorrt_names() -> set[str]:
    """As they are looked up on the module: ``DataType.HALF``, ``Builder.create_network``."""
    names = set()
    for file in ("builder.py", "loaded_engine.py", "library.py"):
        for root, *parts in attributes(PACKAGE / file):
            if root == "self" and len(parts) > 1 and parts[0] in CLASSES:
                root, *parts = parts
            if root == "trt":
                names.add(".".join(parts).partition(".__members__")[0].removesuffix(".__init__"))
            elif root in CLASSES and f"{root}.{parts[0]}" not in NOT_TENSORRT:
                names.add(f"{CLASSES[root]}.{parts[0]}")
    return names


def cuda_names(module: str) -> set[str]:
    files = ("device.py", "runner.py", "slots.py", "kernels.py")
    found = [name for file in files for name in attributes(PACKAGE / file)]
    return {".".join(parts) for root, *parts in found if root == module}


def missing(module: str, names: set[str], environment: dict[str, str]) -> list[str]:
    """Which names a module lacks, told by a process of its own."""
    script = f"""
import functools, importlib, json, sys
module = importlib.import_module({module!r})
lacks = []
for name in json.load(sys.stdin):
    try:
        functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        lacks.append(name)
print(json.dumps([getattr(module, "__version__", ""), lacks]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(sorted(names)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout)[1])


def unpacked(package: str, version: str, where: Path) -> Path:
    """The wheel of a package that need not be (or cannot be) installed beside ours."""
    wheels = where / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
    ]
    done = subprocess.run(
        [*command, "--dest", str(wheels), f"{package}=={version}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"pip cannot download {package}=={version}: {done.stderr.strip()[-200:]}")
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(where / "unpacked")
    return where / "unpacked"


@pytest.fixture(scope="session")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("stubs")
    for major in (10, 11):
        for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            soname = f"lib{name}.so.{major}"
            command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", str(HERE / "stub.c")]
            subprocess.run([*command, "-o", str(where / soname)], check=True)
    return where


def test_names_are_collected() -> None:
    """The other tests say nothing if this finds nothing."""
    names = tensorrt_names()
    assert {
        "Builder", "Builder.create_network", "BuilderFlag.VERSION_COMPATIBLE", "DataType.HALF",
        "IBuilderConfig.set_memory_pool_limit", "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address", "ICudaEngine.get_tensor_dtype",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "OnnxParser.parse",
        "Runtime.deserialize_cuda_engine", "IProgressMonitor", "ILogger", "ITensor.shape",
    } <= names  # fmt: skip
    assert {"cuLaunchKernel", "cuMemHostAlloc", "cuGraphInstantiate"} <= cuda_names("driver")
    assert "nvrtcCompileProgram" in cuda_names("nvrtc")


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt_has_every_name_we_use(version: str, stub_libraries: Path, tmp_path: Path) -> None:
    where = unpacked("tensorrt-cu12-bindings", version, tmp_path)
    names = tensorrt_names()
    # Only TensorRT-RTX builds for other GPUs than the one at hand.
    names -= {n for n in names if n.startswith("ComputeCapability")}
    names -= {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
    # And only it compiles kernels while it runs.
    names -= {n for n in names if n.startswith(("DynamicShapesKernel", "CudaGraphStrategy"))}
    names -= {n for n in names if n.startswith("IRuntimeConfig")}
    names -= {"ICudaEngine.create_runtime_config", "IExecutionContext.is_stream_capturable"}
    environment = {"PYTHONPATH": str(where), "LD_LIBRARY_PATH": str(stub_libraries)}
    assert missing("tensorrt_bindings", names, environment) == []


def test_tensorrt_rtx_has_every_name_we_use() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    assert missing("tensorrt_rtx", tensorrt_names(), {}) == []


def test_a_name_that_is_gone_is_found(stub_libraries: Path, tmp_path: Path) -> None:
    """TensorRT 11 has no EXPLICIT_BATCH; whoever used it would be told."""
    where = unpacked("tensorrt-cu12-bindings", "11.4.0.106", tmp_path)
    environment = {"PYTHONPATH": str(where), "LD_LIBRARY_PATH": str(stub_libraries)}
    gone = "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"
    assert missing("tensorrt_bindings", {gone, "Builder"}, environment) == [gone]


@pytest.mark.parametrize("version", [OLDEST_CUDA_PYTHON, "12.9.10", "13.0.3"])
def test_cuda_python_has_every_name_we_use(version: str, tmp_path: Path) -> None:
    where = unpacked("cuda-bindings", version, tmp_path)
    for module in ("driver", "nvrtc"):
        names = cuda_names(module)
        assert missing(f"cuda.bindings.{module}", names, {"PYTHONPATH": str(where)}) == []


def test_the_runner_works_over_the_oldest_cuda_python(tmp_path: Path) -> None:
    """Its tests once more, over the cuda-python of JetPack 6; a part of them, for the time it takes.

    NVRTC of CUDA 12 is not here: the cubin, which the emulated driver does not run, is a stand-in.
    """
    where = unpacked("cuda-bindings", OLDEST_CUDA_PYTHON, tmp_path)
    (tmp_path / "stand_in.py").write_text(
        f"""
import cuda.bindings
from deeplab_rt.backends.tensorrt import kernels
assert cuda.bindings.__version__ == {OLDEST_CUDA_PYTHON!r}
kernels.cubin_for = lambda capability: b"\\x7fELF" + bytes(44) + bytes([87]) + bytes(15)
"""
    )
    tests = "masks_equal or two_in_flight or graph or lost_device or another"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "stand_in", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", tests, str(Path(__file__).with_name("test_trt_runner.py"))],
        cwd=PACKAGE.parents[2],
        env={**os.environ, "PYTHONPATH": f"{where}{os.pathsep}{tmp_path}{os.pathsep}."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
