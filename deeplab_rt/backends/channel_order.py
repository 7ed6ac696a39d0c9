"""BGR frames into a network that was made for RGB, without a pass over the frame.

The first convolution is as well served by blue first when its weights are: they are swapped once,
when the network is read, with the constants of the normalisation before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# What may stand between the image and the first convolution: each keeps channels apart.
_CHANNELWISE = frozenset(
    ("Convert", "Transpose", "Subtract", "Divide", "Multiply", "Add", "FakeQuantize")
)


def swap_channels(network: Any) -> bool:
    """Make an ``openvino.Model`` of one image input [N, H, W, 3] take its channels in reverse.

    Returns:
        Whether it costs nothing at run time: the constants were reversed. Otherwise, for a graph that
        does something else with the image before a convolution, its channels are gathered anew in
        the graph, one more pass.
    """
    image = network.input(0).get_node()
    constants = _constants_to_first_convolution(image)
    if constants is None:
        _gather(image)
        return False
    from openvino import opset13 as op

    for constant, axis in constants:
        data = np.ascontiguousarray(np.flip(constant.data, axis))
        swapped = op.constant(data, constant.get_element_type())
        swapped.set_friendly_name(constant.get_friendly_name())
        for target in constant.output(0).get_target_inputs():
            target.replace_source_output(swapped.output(0))
    return True


def _constants_to_first_convolution(image: Any) -> list[tuple[Any, int]] | None:
    """The constants that depend on the channel, each with its channel axis; None where the way from
    the image to its first convolution is not a plain one."""
    found: list[tuple[Any, int]] = []
    node = image
    while True:
        targets = list(node.output(0).get_target_inputs())
        if len(targets) != 1:
            return None
        target = targets[0]
        node = target.get_node()
        others = [v for i, v in enumerate(node.input_values()) if i != target.get_index()]
        constants = [one for value in others for one in _constants(value.get_node())]
        if node.get_type_name() == "Convolution" and target.get_index() == 0:
            weights = [one for one in constants if len(one.shape) == 4 and one.shape[1] == 3]
            return [*found, *((one, 1) for one in weights)] if weights else None
        if node.get_type_name() not in _CHANNELWISE:
            return None
        if node.get_type_name() != "Transpose":  # whose constant is an order of axes
            found += [(c, list(c.shape).index(3)) for c in constants if c.data.size == 3]


def _constants(node: Any) -> Iterator[Any]:
    """Every constant that a node is computed from."""
    if node.get_type_name() == "Constant":
        yield node
    for value in node.input_values():
        yield from _constants(value.get_node())


def _gather(image: Any) -> None:
    from openvino import opset13 as op

    targets = list(image.output(0).get_target_inputs())
    order, axis = op.constant(np.array([2, 1, 0], np.int64)), op.constant(np.int64(3))
    reversed_ = op.gather(image, order, axis)
    for target in targets:
        target.replace_source_output(reversed_.output(0))
