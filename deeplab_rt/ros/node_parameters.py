"""The parameters of :mod:`deeplab_rt.ros.parameters` as those of a ROS node."""

from __future__ import annotations

from dataclasses import fields

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from deeplab_rt.ros.parameters import Settings


def declare(node: Node) -> Settings:
    """Declare every parameter with its description and bounds, and return their values.

    Raises:
        ParameterError: a value given at start is out of its bounds, or does not go with another one.
    """
    for parameter in fields(Settings):
        metadata = parameter.metadata
        descriptor = ParameterDescriptor(
            description=metadata["description"],
            additional_constraints=", ".join(metadata["choices"]),
            read_only=metadata["when"] == "start",
        )
        if metadata["bounds"]:
            low, high = metadata["bounds"]
            if isinstance(parameter.default, int):
                descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=low, to_value=high)
                ]
        # ROS cannot type an empty list: [""] stands for it.
        default = [""] if parameter.default == () else parameter.default
        node.declare_parameter(parameter.name, default, descriptor)
    names = [parameter.name for parameter in fields(Settings)]
    return Settings.from_values({p.name: p.value for p in node.get_parameters(names)})
