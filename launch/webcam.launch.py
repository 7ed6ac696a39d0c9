"""A camera on a desk: a publisher of its frames, the segmenter, and a window with the overlay.

ros2 launch deeplab_rt webcam.launch.py input:=0
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = [
    ("input", "0", "camera number, device path, URL, or a recording; street: a rendered one"),
    ("model", "", "model name or directory; empty: the default model"),
    ("backend", "", "auto, cpu or tensorrt; empty: auto"),
    ("view", "true", "show the overlay in rqt_image_view"),
]
VIEWER = "rqt_image_view"


def generate_launch_description() -> LaunchDescription:
    segmenter = str(Path(__file__).resolve().with_name("segmenter.launch.py"))
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t) for n, d, t in ARGUMENTS),
            # First, since it sets the transport profile for what follows too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(segmenter),
                launch_arguments={n: LaunchConfiguration(n) for n in ("model", "backend")}.items(),
            ),
            Node(
                package="deeplab_rt",
                executable="camera_node",
                parameters=[
                    {"input": ParameterValue(LaunchConfiguration("input"), value_type=str)}
                ],
                output="screen",
            ),
            viewer(),
        ]
    )


def viewer() -> Node | LogInfo:
    condition = IfCondition(LaunchConfiguration("view"))
    try:
        get_package_prefix(VIEWER)
    except PackageNotFoundError:
        text = f"{VIEWER} is not installed: look at /deeplab/overlay with what you have"
        return LogInfo(msg=text, condition=condition)
    return Node(
        package=VIEWER, executable=VIEWER, arguments=["/deeplab/overlay"], condition=condition
    )
