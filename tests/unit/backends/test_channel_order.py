"""Reversed channels: equal results, at no cost where the graph allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from deeplab_rt.backends.channel_order import swap_channels
from deeplab_rt.models import Model, load_model

MEAN = np.array([120.0, 110.0, 100.0], np.float32).reshape(1, 3, 1, 1)
STD = np.array([50.0, 60.0, 70.0], np.float32).reshape(1, 3, 1, 1)


def graph(*, twice: bool = False, channels_last_mean: bool = False) -> ov.Model:
    """Normalisation per channel and a convolution; ``twice`` reads the image a second time."""
    rng = np.random.default_rng(0)
    image = op.parameter([1, 32, 64, 3], ov.Type.u8)
    x: Any = op.convert(image, ov.Type.f32)
    if channels_last_mean:
        x = op.subtract(x, op.constant(MEAN.reshape(1, 1, 1, 3)))
    x = op.transpose(x, op.constant(np.array([0, 3, 1, 2])))
    if not channels_last_mean:
        x = op.subtract(x, op.constant(MEAN))
    x = op.divide(x, op.constant(STD))
    weights = op.constant(rng.normal(size=(5, 3, 3, 3)).astype(np.float32))
    y: Any = op.convolution(x, weights, [2, 2], [1, 1], [1, 1], [1, 1])
    if twice:
        # More of the image than a convolution: constants alone cannot say it in reverse.
        y = op.add(y, op.reduce_max(op.convert(image, ov.Type.f32), op.constant([1, 2, 3])))
    return ov.Model([y], [image])


def evaluate(network: ov.Model, image: np.ndarray) -> np.ndarray:
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    result: np.ndarray = ov.Core().compile_model(network, "CPU", config)([image])[0]
    return result


@pytest.mark.parametrize(
    ("options", "folded"),
    [({}, True), ({"channels_last_mean": True}, True), ({"twice": True}, False)],
)
def test_reversed_frames_give_the_same(options: dict[str, bool], folded: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 64, 3), np.uint8)
    expected = evaluate(graph(**options), image)
    swapped = graph(**options)
    assert swap_channels(swapped) is folded
    actual = evaluate(swapped, np.ascontiguousarray(image[..., ::-1]))
    assert np.allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(evaluate(swapped, image), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_networks_are_swapped_in_their_constants(precision: str) -> None:
    model: Model = load_model()
    core = ov.Core()
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 96, 3), np.uint8)
    results = []
    for swap in (False, True):
        network = core.read_model(model.file(precision))
        network.reshape({0: [1, 64, 96, 3]})
        if swap:
            assert swap_channels(network)
        results.append(evaluate(network, np.ascontiguousarray(image[..., ::-1]) if swap else image))
    assert np.allclose(*results, rtol=1e-4, atol=1e-3)
