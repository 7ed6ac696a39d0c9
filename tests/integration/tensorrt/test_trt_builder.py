"""Engines built for real by TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typed_networks import int8_chain, reshape

from deeplab_rt.backends.tensorrt import builder, engine_store, library
from deeplab_rt.backends.tensorrt.builder import build
from deeplab_rt.backends.tensorrt.engine_store import Engine, Options
from deeplab_rt.backends.tensorrt.inspection import Layer, Tensor, layers_of_log, summary
from deeplab_rt.errors import BackendError, EngineError, ModelError
from deeplab_rt.models import Model, load_model, model_names, write_manifest
from deeplab_rt.options import GPU_PRECISIONS

pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx"
)

TARGETS = ("SM86", "SM89")
SHIPPED = [
    (name, precision)
    for name in model_names()
    for precision in GPU_PRECISIONS
    if precision != "int8" or "int8-trt" in load_model(name).files
]


@pytest.fixture(autouse=True)
def _own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "cache"))


def layers_of(engine: Engine) -> list[Layer]:
    """Read them from the log that the build left beside the engine."""
    return layers_of_log(engine.path.with_suffix(".log"))


def convolutions(layers: list[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.is_convolution]


def the_tensor(layers: list[Layer], name: str) -> Tensor:
    every = [t for layer in layers for t in (*layer.inputs, *layer.outputs) if t.name == name]
    assert every, f"no layer reads or writes {name}"
    return every[0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_small_network_is_built(typed_model: Model, precision: str, target: str) -> None:
    engine = build(typed_model, precision, target=target)
    spec = engine.spec
    assert spec.target.capability == {"SM86": "8.6", "SM89": "8.9"}[target]
    assert (spec.target.library, spec.target.device) == ("tensorrt_rtx", "")
    assert len(engine.read()) > 1000
    layers = layers_of(engine)
    image, logits = the_tensor(layers, "image"), the_tensor(layers, "logits")
    assert (image.shape, image.type) == ((1, 96, 128, 3), "UInt8")
    assert np.prod(logits.shape) == 11 * 24 * 32  # a layer may see the grid as one row
    assert logits.type == ("Half" if precision == "fp16" else "Float")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "precision"), SHIPPED)
def test_shipped_models_are_built_in_the_types_of_their_files(
    name: str, precision: str, target: str
) -> None:
    model = load_model(name)
    engine = build(model, precision, target=target)
    layers = layers_of(engine)
    height, width = model.input_size
    image, logits = the_tensor(layers, "image"), the_tensor(layers, "logits")
    assert (image.shape, image.type) == ((1, height, width, 3), "UInt8")
    assert logits.shape == (1, len(model.labels), height // 4, width // 4)
    assert logits.type in ("Half", "Float")
    layers = convolutions(layers)
    assert len(layers) > 40  # of an encoder, the pyramid and a decoder
    wanted = {"fp32": {"Float"}, "fp16": {"Half"}}.get(precision)
    if wanted is None:
        check_int8(model, layers)
        return
    for layer in layers:
        weights = [t for t in layer.constants if len(t.shape) == 4]
        types = {t.type for t in (*layer.inputs, *weights, *layer.outputs)}
        assert types == wanted, f"{layer.name}: {types}"


def check_int8(model: Model, layers: list[Layer]) -> None:
    """Every convolution but the classifier reads int8, which is all that TensorRT-RTX can show."""
    network = onnx.load(model.file("int8-trt"))
    scales = {n.input[1] for n in network.graph.node if n.op_type == "DequantizeLinear"}
    kinds = {t.data_type for t in network.graph.initializer if t.name in scales}
    if onnx.TensorProto.FLOAT in kinds:
        pytest.skip(f"{model.name} was quantised with float scales: `deeplab_rt quantize` anew")
    ours = [layer.types for layer in convolutions(layers)]
    assert ours.count("Half -> Half") == 1, "the classifier"
    assert ours.count("Int8 -> Float") == len(ours) - 1, "TensorRT-RTX has learnt to put out INT8"


@pytest.mark.skipif(not SHIPPED, reason="no model is shipped")
def test_what_int8_moves_on_rtx_and_what_fp16_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped network, quantised as `deeplab_rt quantize` does it, against fp16.

    On TensorRT-RTX it loses: see the next test for why. The figures are printed, and this fails
    when they turn, since then `auto` may take int8 there.
    """
    from deeplab_rt.network.export import synthetic_frames
    from deeplab_rt.network.quantisation import quantise

    model = load_model()
    figures = {}
    for precision in ("fp16", "int8"):
        if precision == "int8":
            frames = synthetic_frames((96, 128), 4)
            quantise(model.file("fp32"), tmp_path / "q.onnx", frames, symmetric=True)
            files = {"int8-trt": {"path": "q.onnx"}}
            model = write_manifest(tmp_path, {**model.manifest, "name": "q", "files": files})
        layers = layers_of(build(model, precision, target="SM86"))
        figures[precision] = summary(layers)
        if precision == "int8":
            types = [layer.types for layer in convolutions(layers)]
            assert types.count("Half -> Half") == 1, "the classifier"
            assert types.count("Int8 -> Float") == len(types) - 1
    with capsys.disabled():
        for precision, one in figures.items():
            moved = one["bytes_moved"] / 1e6
            print(f"\n{precision} on SM86: {one['layers']} layers, {moved:.1f} MB moved", end="")
    assert figures["int8"]["bytes_moved"] > figures["fp16"]["bytes_moved"]


@pytest.mark.parametrize("activation", [None, "Relu"])
@pytest.mark.parametrize("half", [True, False])
def test_rtx_puts_out_float_from_the_plainest_int8_convolution(
    tmp_path: Path, half: bool, activation: str | None
) -> None:
    """Quantiser, convolution, quantiser, four times, as NVIDIA's documents have it: a limit of RTX.

    TensorRT proper fuses the quantiser behind a convolution (its documents); nobody has looked here.
    """
    (tmp_path / "chain.onnx").write_bytes(int8_chain(half, activation).SerializeToString())
    labels = [{"id": i + 1, "name": str(i), "color": [i, i, i], "groups": []} for i in range(11)]
    manifest = {"labels": labels, "input": {"height": 96, "width": 128}}
    files = {"int8-trt": {"path": "chain.onnx"}}
    model = write_manifest(tmp_path, {**manifest, "files": files})
    layers = layers_of(build(model, "int8", target="SM86"))
    assert [layer.types for layer in convolutions(layers)].count("Int8 -> Float") == 4


def test_int8_on_rtx_is_warned_of(typed_model: Model, caplog: pytest.LogCaptureFixture) -> None:
    build(typed_model, "fp16", target="SM86")
    assert not caplog.records
    build(typed_model, "int8", target="SM86")
    (record,) = caplog.records
    assert "more bytes than an fp16 one" in record.message and "--precision fp16" in record.message


def test_fp16_is_derived_where_no_file_ships(typed_model: Model, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(typed_model.file("fp32").read_bytes())
    files = {"fp32": {"path": "model.onnx"}}
    model = write_manifest(tmp_path, {**typed_model.manifest, "files": files})
    engine = build(model, "auto", target="SM86")
    assert engine.spec.precision == "fp16"
    assert engine.spec.onnx_sha256 == model.files["fp32"][1]
    assert the_tensor(layers_of(engine), "logits").type == "Half"


@pytest.mark.skipif(not SHIPPED, reason="no model is shipped")
@pytest.mark.parametrize("name", model_names())
def test_shipped_half_models_stay_far_from_overflow(name: str, camvid_val: Path) -> None:
    """Every tensor of the fp32 network on real frames, against the largest half, 65504.

    And nothing in the network is known to lose too much in half: no normalisation by running
    statistics, no softmax, no exponential.
    """
    import cv2
    import onnxruntime

    model = load_model(name)
    network = onnx.load(model.file("fp32"))
    risky = {"Softmax", "LogSoftmax", "Exp", "LayerNormalization", "InstanceNormalization", "Pow"}
    assert not risky & {node.op_type for node in network.graph.node}
    known = {output.name for output in network.graph.output}
    typed = onnx.shape_inference.infer_shapes(network)
    floats = [
        value
        for value in typed.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in known
    ]
    network.graph.output.extend(floats)
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    height, width = model.input_size
    largest = 0.0
    for path in sorted((camvid_val / "images").iterdir())[::50]:
        frame = cv2.resize(cv2.imread(str(path)), (width, height))[..., ::-1]
        for value in session.run(None, {"image": np.ascontiguousarray(frame)[None]}):
            largest = max(largest, float(np.abs(value).max()))
    assert 1 < largest < 65504 / 8, "a brighter scene might overflow"


def test_a_batch_is_a_profile(typed_model: Model) -> None:
    engine = build(typed_model, "fp32", max_batch=3, target="SM86")
    assert engine.spec.max_batch == 3 and "-b3-" in engine.path.name
    layers = layers_of(engine)
    assert the_tensor(layers, "image").shape == (-1, 96, 128, 3)
    assert the_tensor(layers, "logits").shape[:2] == (-1, 11)


def test_progress_rises_to_the_end(typed_model: Model) -> None:
    seen: list[tuple[str, float]] = []
    build(typed_model, "fp32", target="SM86", progress=lambda *step: seen.append(step))
    fractions = [done for _, done in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < 0.2 and 0.8 < fractions[-1] <= 1
    assert len({phase for phase, _ in seen}) > 3


def test_whoever_follows_the_progress_may_stop_it(typed_model: Model) -> None:
    def stop(phase: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(typed_model, "fp32", target="SM86", progress=stop)
    assert list(engine_store.stored()) == []
    assert list(engine_store.engines_dir().glob("*.engine")) == []


def test_built_once_and_anew_only_if_asked(typed_model: Model) -> None:
    calls: list[float] = []
    build(typed_model, "fp32", target="SM86", progress=lambda _, done: calls.append(done))
    first = len(calls)
    engine = build(typed_model, "fp32", target="SM86", progress=lambda _, done: calls.append(done))
    assert len(calls) == first
    again = build(typed_model, "fp32", target="SM86", force=True)
    assert again.path == engine.path and again.built_at > engine.built_at


def test_options_that_widen_where_an_engine_runs(typed_model: Model) -> None:
    """TensorRT-RTX does one and refuses the other for want of a library."""
    wide = Options(hardware_compatible=True)
    assert build(typed_model, "fp32", target="SM86", options=wide).spec.options == wide
    with pytest.raises(EngineError, match=r"cannot build .*nvinfer_lean.*whole log is in .*\.log"):
        build(typed_model, "fp32", target="SM86", options=Options(version_compatible=True))


def test_the_network_is_strongly_typed_and_the_workspace_as_asked(
    typed_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX is always strongly typed; TensorRT 10 picks its own types unless it is told."""
    rtx = library.load("tensorrt_rtx")
    flags, pools = [], []

    class Builder(rtx.module.Builder):  # type: ignore[misc, name-defined]
        def create_network(self, given: int = 0) -> Any:
            flags.append(given)
            return super().create_network(given)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            pools.append(config.get_memory_pool_limit(rtx.module.MemoryPoolType.WORKSPACE))
            return super().build_serialized_network(network, config)

    class Module:
        def __getattr__(self, name: str) -> Any:
            return Builder if name == "Builder" else getattr(rtx.module, name)

    double = library.Library(Module(), rtx.name, rtx.version)
    monkeypatch.setattr(library, "load", lambda name=None: double)
    build(typed_model, "fp32", target="SM86", workspace_mb=64)
    assert flags == [1 << int(rtx.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]
    assert pools == [64 << 20]


def test_timing_cache_is_kept(typed_model: Model) -> None:
    """TensorRT-RTX takes the calls and times nothing; that they are made is what this shows."""
    rtx = library.load("tensorrt_rtx")
    posing = library.Library(rtx.module, "tensorrt", rtx.version)
    target = engine_store.Target("tensorrt", rtx.version, "Some GPU/1", "8.6")
    spec = engine_store.spec_of(typed_model, "fp32", None, 1, target)
    engine_store.engines_dir().mkdir(parents=True)
    path = typed_model.file("fp32")
    for _ in range(2):
        with pytest.warns(DeprecationWarning, match="no-ops"):
            builder.compile_network(
                posing, path, path.read_bytes(), spec, 11, "SM86", 64, lambda phase, done: None
            )
    (cache,) = engine_store.engines_dir().glob("timings-*.cache")
    assert cache.name == f"timings-{rtx.version}-Some_GPU_1-8.6.cache"


def test_two_processes_build_one_engine(typed_model: Model) -> None:
    command = [sys.executable, "-m", "deeplab_rt", "build", "--model", str(typed_model.directory)]
    command += ["--precision", "fp32", "--target", "SM86", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sorted(result["built"] for result in results) == [False, True]
    assert results[0]["engine"] == results[1]["engine"]


# ---- Refusals ---------------------------------------------------------------------------------------


@pytest.fixture
def spoil(typed_model: Model, tmp_path: Path) -> Callable[..., Model]:
    """A model whose file is the given precision's, changed."""

    def spoil(precision: str, change: Callable[[onnx.ModelProto], None]) -> Model:
        network = onnx.load(typed_model.file(precision))
        change(network)
        directory = tmp_path / "spoilt"
        directory.mkdir()
        onnx.save(network, directory / "model.onnx")
        manifest: dict[str, Any] = dict(typed_model.manifest)
        return write_manifest(directory, {**manifest, "files": {precision: {"path": "model.onnx"}}})

    return spoil


def initializer(network: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in network.graph.initializer if tensor.name == name)


def test_asymmetric_quantisation_is_refused(spoil: Callable[..., Model]) -> None:
    def change(network: onnx.ModelProto) -> None:
        zero = initializer(network, "cells_zero")
        zero.CopyFrom(numpy_helper.from_array(np.int8(5), zero.name))

    with pytest.raises((ModelError, EngineError), match=r"model.onnx.*zero") as caught:
        build(spoil("int8-trt", change), "int8", target="SM86")
    assert "\n" not in str(caught.value)


def test_an_input_of_another_type_is_refused(spoil: Callable[..., Model]) -> None:
    def change(network: onnx.ModelProto) -> None:
        network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    with pytest.raises(
        ModelError, match=r"inputs are float32 \[.*expected one uint8.*deeplab_rt export"
    ):
        build(spoil("fp32", change), "fp32", target="SM86")


def test_an_output_of_another_name_is_refused(spoil: Callable[..., Model]) -> None:
    def change(network: onnx.ModelProto) -> None:
        network.graph.node[-1].output[0] = network.graph.output[0].name = "scores"

    with pytest.raises(ModelError, match="tensors are image and scores; expected image and logits"):
        build(spoil("fp32", change), "fp32", target="SM86")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("scalar", r"outputs float32 \[\]; expected one uint8"),
        ("stride", r"at an input of 128x96 the logits are \[1, 11, 12, 16\].*a stride of 4"),
        ("classes", "the network gives 7 classes, the manifest names 11 labels"),
    ],
)
def test_an_output_of_another_shape_is_refused(
    spoil: Callable[..., Model], change: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        build(spoil("fp32", lambda network: reshape(network, change)), "fp32", target="SM86")


def test_an_operator_that_tensorrt_lacks_is_refused(spoil: Callable[..., Model]) -> None:
    def change(network: onnx.ModelProto) -> None:
        network.graph.node[-1].op_type = "Deconvolute"

    with pytest.raises(ModelError, match="TensorRT-RTX .* cannot read it: .*Deconvolute"):
        build(spoil("fp32", change), "fp32", target="SM86")


def test_a_file_that_is_no_network_is_refused(typed_model: Model, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\0" * 100)
    files = {"fp32": {"path": "model.onnx"}}
    model = write_manifest(tmp_path, {**typed_model.manifest, "files": files})
    with pytest.raises(ModelError, match="cannot read it|its inputs are none"):
        build(model, "fp32", target="SM86")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "SM87"}, "cannot build for 'SM87'.*SM86.*on the Jetson"),
        ({"target": "SM86", "precision": "bf16"}, "not one of auto, fp32, fp16, int8"),
        ({"target": "SM86", "input_size": (100, 128)}, "multiple of 32"),
        ({"target": "SM86", "max_batch": 0}, "expected 1 to 64"),
        ({}, "no NVIDIA|finds no GPU"),
    ],
)
def test_what_cannot_be_built_is_said(
    typed_model: Model, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((ModelError, EngineError, BackendError), match=message):
        build(typed_model, **arguments)


def test_a_cache_that_cannot_be_written(
    typed_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPLAB_RT_CACHE", str(tmp_path / "file"))
    with pytest.raises(EngineError, match="cannot write there: .*set DEEPLAB_RT_CACHE"):
        build(typed_model, "fp32", target="SM86")
