"""The segmenter on a vehicle: started, configured and activated.

ros2 launch deeplab_rt segmenter.launch.py image:=/camera/image_raw
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from deeplab_rt.ros.transport import profile_environment, profile_is_set

ARGUMENTS = [
    ("image", "image", "image topic; of several cameras its last part, below each camera's name"),
    ("camera_info", "", "camera_info topic; empty: beside the image topic"),
    ("cameras", "", "names of several cameras on one engine, with commas: front,rear"),
    ("params_file", "", "parameter file; empty: config/segmenter.yaml of the package"),
    ("model", "", "model name or directory; empty: as the parameter file says"),
    ("backend", "", "auto, cpu or tensorrt; empty: as the parameter file says"),
    ("image_transport", "", "raw or compressed; empty: as the parameter file says"),
    ("namespace", "", "namespace of the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "true", "configure and activate the node when it starts"),
    ("respawn", "false", "start the node again when it dies"),
    ("use_sim_time", "false", "take the time of /clock"),
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
    cameras = [name.strip() for name in value["cameras"].split(",") if name.strip()]
    default_file = Path(__file__).resolve().parent.parent / "config" / "segmenter.yaml"
    respawn, autostart = is_true(value["respawn"]), is_true(value["autostart"])
    # A node that was killed stays in the graph for up to 20 s, and a request to the one that takes
    # its place may go to that ghost: a node that is to come back starts itself.
    parameters: dict[str, object] = {
        "use_sim_time": is_true(value["use_sim_time"]),
        "autostart": autostart and respawn,
    }
    for name in ("model", "backend", "image_transport"):
        if value[name]:
            parameters[name] = ParameterValue(value[name], value_type=str)
    if cameras:
        parameters["cameras"] = cameras
    info = value["camera_info"] or beside(value["image"])
    remappings = [("image", value["image"]), ("camera_info", info)]
    if cameras:
        remappings = [(f"{c}/{a}", f"{c}/{b}") for c in cameras for a, b in remappings]
    node = LifecycleNode(
        package="deeplab_rt",
        executable="segmenter_node",
        name="deeplab",
        namespace=value["namespace"],
        parameters=[value["params_file"] or str(default_file), parameters],
        remappings=remappings,
        ros_arguments=["--log-level", f"deeplab:={value['log_level']}"],
        respawn=respawn,
        respawn_delay=1.0,
        output="screen",
        emulate_tty=True,
    )
    environment = {} if profile_is_set() else profile_environment()
    actions: list[object] = [SetEnvironmentVariable(k, v) for k, v in environment.items()]
    if autostart and not respawn:

        def change(transition: int) -> EmitEvent:
            return EmitEvent(
                event=ChangeState(
                    lifecycle_node_matcher=matches_action(node), transition_id=transition
                )
            )

        actions += [
            RegisterEventHandler(
                OnProcessStart(
                    target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)]
                )
            ),
            # Only on the way up: without start_state every deactivation would be undone.
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[change(Transition.TRANSITION_ACTIVATE)],
                )
            ),
        ]
    return [*actions, node]


def beside(image: str) -> str:
    """The camera_info topic that belongs to an image topic, by the convention of image_transport."""
    return f"{image.rpartition('/')[0]}/camera_info" if "/" in image else "camera_info"


def is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes", "on")
