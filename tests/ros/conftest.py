"""ROS tests: real rclpy over real DDS, in a domain of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install 'deeplab_rt[ros]'")

from deeplab_rt.ros.transport import profile_environment
from tests.ros.peer import Peer


@pytest.fixture(autouse=True, scope="session")
def _ros_domain() -> Iterator[None]:
    """A domain that no other ROS process of this machine is likely to use, and no other machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        for name, value in profile_environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()
