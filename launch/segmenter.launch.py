"""The segmenter on a vehicle: started, configured and activated.

ros2 launch deeplab_rt segmenter.launch.py image:=/camera/image_raw

Every parameter of the node is an argument too: engine_policy:=build, max_age_ms:=100.0.
"""

from __future__ import annotations

from dataclasses import fields
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

from deeplab_rt.ros.launch_arguments import NODE_NAME, node_setup
from deeplab_rt.ros.parameters import Settings
from deeplab_rt.ros.transport import profile_environment, profile_is_set

ARGUMENTS = [
    ("image", "image", "image topic; with cameras its last part, below each camera's name"),
    ("camera_info", "", "camera_info topic; empty: beside the image topic"),
    ("params_file", "", "parameter file; empty: config/segmenter.yaml of the package"),
    ("namespace", "", "namespace of the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "true", "configure and activate the node when it starts"),
    ("respawn", "false", "start the node again when it dies"),
    ("use_sim_time", "", "take the time of /clock; empty: as the parameter file says"),
]
PARAMETERS = [
    (parameter.name, "", f"{parameter.metadata['description']} Empty: as the parameter file says.")
    for parameter in fields(Settings)
    if parameter.name != "autostart"
]


def generate_launch_description() -> LaunchDescription:
    arguments = [*ARGUMENTS, *PARAMETERS]
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t) for n, d, t in arguments),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[object]:
    names = [name for name, _, _ in (*ARGUMENTS, *PARAMETERS)]
    value = {name: LaunchConfiguration(name).perform(context) for name in names}
    default_file = Path(__file__).resolve().parent.parent / "config" / "segmenter.yaml"
    setup = node_setup(value, default_file)
    parameters = {  # a text stays a text, whatever it looks like
        name: ParameterValue(given, value_type=str) if isinstance(given, str) else given
        for name, given in setup.parameters.items()
    }
    node = LifecycleNode(
        package="deeplab_rt",
        executable="segmenter_node",
        name=NODE_NAME,
        namespace=value["namespace"],
        parameters=[setup.params_file, parameters],
        remappings=setup.remappings,
        ros_arguments=["--log-level", f"{NODE_NAME}:={value['log_level']}"],
        respawn=setup.respawn,
        respawn_delay=1.0,
        output="screen",
        emulate_tty=True,
    )
    environment = {} if profile_is_set() else profile_environment()
    actions: list[object] = [SetEnvironmentVariable(k, v) for k, v in environment.items()]
    if setup.autostart and not setup.respawn:

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
