"""The layouts for RViz and Foxglove: what they show is what the node publishes, as it publishes it.

Neither program is on a package index: the files are read and held against the node, not opened by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import CompressedImage, Image, LaserScan

from deeplab_rt.ros.outputs import OUTPUTS

CONFIG = Path(__file__).parents[2] / "config"
OF = {f"/deeplab/{output.name}": output for output in OUTPUTS}
RVIZ = {"Map": OccupancyGrid, "LaserScan": LaserScan, "Image": Image}
FOXGLOVE = {"Image": (Image, CompressedImage), "3D": (OccupancyGrid, LaserScan)}


def test_rviz_subscribes_to_what_is_there_and_as_it_is_offered() -> None:
    content = yaml.safe_load((CONFIG / "deeplab.rviz").read_text())
    displays = content["Visualization Manager"]["Displays"]
    shown = [display for display in displays if "Topic" in display]
    assert len(shown) >= 4
    for display in shown:
        output, topic = OF[display["Topic"]["Value"]], display["Topic"]
        assert output.kind is RVIZ[display["Class"].rpartition("/")[2]]
        durability = "Transient Local" if output.latched else "Volatile"
        assert topic["Durability Policy"] == durability


def topics(content: Any) -> Iterator[tuple[str, str]]:
    """(panel, topic) of a Foxglove layout."""
    for name, panel in content["configById"].items():
        for topic in (panel.get("imageMode", {}).get("imageTopic"), *panel.get("topics", {})):
            if topic:
                yield name.partition("!")[0], topic


def test_foxglove_layout_shows_what_is_there() -> None:
    content = json.loads((CONFIG / "deeplab.foxglove.json").read_text())
    found = list(topics(content))
    assert len(found) >= 4
    for panel, topic in found:
        assert OF[topic].kind in FOXGLOVE[panel]

    def leaves(layout: Any) -> list[str]:
        if isinstance(layout, str):
            return [layout]
        return leaves(layout["first"]) + leaves(layout["second"])

    assert sorted(leaves(content["layout"])) == sorted(content["configById"])
