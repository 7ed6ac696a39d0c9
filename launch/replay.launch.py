"""A recorded drive through the node, in the time of the recording; ends when the bag ends.

ros2 launch deeplab_rt replay.launch.py bag:=drive image:=/camera/image_raw record:=masks

Every frame once and in order, faster than real time: `deeplab_rt replay` does that without ROS.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ARGUMENTS = [
    ("bag", None, "the bag to play"),
    ("image", "image", "its image topic, with its / in front"),
    ("rate", "1.0", "speed of playing"),
    ("record", "", "bag to record the masks into; empty: none"),
    ("model", "", "model name or directory; empty: the default model"),
    ("backend", "", "auto, cpu or tensorrt; empty: auto"),
    ("image_transport", "raw", "raw or compressed"),
    ("namespace", "", "namespace of the node"),
    ("delay", "5.0", "seconds before the bag begins, for the node to load its model"),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t) for n, d, t in ARGUMENTS),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[object]:
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    segmenter = str(Path(__file__).resolve().with_name("segmenter.launch.py"))
    passed = ("image", "model", "backend", "image_transport", "namespace")
    arguments = {name: value[name] for name in passed}
    arguments["use_sim_time"] = "true"
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", value["bag"], "--clock", "--rate", value["rate"]],
        output="screen",
    )
    actions: list[object] = [
        # First, since it sets the transport profile for what follows too.
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(segmenter), launch_arguments=arguments.items()
        ),
        TimerAction(period=float(value["delay"]), actions=[play]),
        # The last frame is still in the network when the player ends.
        RegisterEventHandler(
            OnProcessExit(
                target_action=play,
                on_exit=[TimerAction(period=1.0, actions=[Shutdown(reason="the bag has ended")])],
            )
        ),
    ]
    if value["record"]:
        node = "/".join(part for part in (value["namespace"].strip("/"), "deeplab") if part)
        topics = [f"/{node}/{name}" for name in RECORDED]
        actions.append(
            ExecuteProcess(cmd=["ros2", "bag", "record", "-o", value["record"], *topics])
        )
    return actions


RECORDED = ("drivable_mask", "object_mask", "label_mask", "label_info", "camera_info")
