"""What the probe makes of stamps and arrivals; its receiving is tested with the demo."""

from __future__ import annotations

import threading
import time

import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters

from deeplab_rt.errors import StreamError
from deeplab_rt.ros.latency_probe import LatencyProbe, Measurement
from tests.ros.peer import PATIENCE, Peer

MS = 1_000_000


def test_rates_drops_and_latency() -> None:
    start = 1_700_000_000 * 1000 * MS
    stamps = [start + 100 * MS * k for k in range(11)]
    arrivals = {stamp: stamp + (10 + k) * MS for k, stamp in enumerate(stamps)}
    del arrivals[stamps[4]]  # its mask never came
    arrivals[start - 5 * MS] = start  # of a frame that is none of ours
    measurement = Measurement([(k % 3, stamp) for k, stamp in enumerate(stamps)], arrivals)
    summary = measurement.summary()
    assert (summary["frames"], summary["masks"], summary["dropped"]) == (11, 10, 1)
    assert summary["dropped_percent"] == pytest.approx(100 / 11, abs=0.01)
    assert summary["rate_in_hz"] == 10.0
    # Ten masks, the last 1010 ms after the first.
    assert summary["rate_out_hz"] == pytest.approx(9 / 1.010, abs=0.01)
    latencies = [10, 11, 12, 13, 15, 16, 17, 18, 19, 20]
    assert summary["latency_ms"]["p50"] == (latencies[4] + latencies[5]) / 2
    assert summary["latency_ms"]["max"] == 20
    assert 19 < summary["latency_ms"]["p99"] < 20


def test_the_nodes_own_stages_are_read_from_its_diagnostics() -> None:
    camera = {
        "rate in (Hz)": "30.0",
        "network p50 (ms)": "12.25",
        "network p99 (ms)": "15.50",
        "age of newest mask (ms)": "20.0",
    }
    measurement = Measurement([(0, 5)], {5: 6}, camera=camera)
    assert measurement.summary()["node_ms"] == {"network": {"p50": 12.25, "p99": 15.5}}


def test_no_mask_at_all_is_an_error() -> None:
    with pytest.raises(StreamError, match="no mask came for any of 2 frames"):
        Measurement([(0, 5), (1, 6)]).summary()


def test_request_that_rclpy_cannot_read_does_not_end_the_probe(
    peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    value = Parameter(name="use_sim_time", value=ParameterValue(type=255))
    with LatencyProbe() as probe:
        sent = threading.Thread(
            target=peer.send_request,
            args=(
                SetParameters,
                "/probe/set_parameters",
                SetParameters.Request(parameters=[value]),
            ),
        )
        sent.start()
        said: list[str] = []

        def told() -> bool:
            said.append(capfd.readouterr().err)
            return "a callback failed, going on: ValueError" in "".join(said)

        end = time.monotonic() + PATIENCE
        probe.spin_until(lambda: told() or time.monotonic() > end)
        sent.join()
    assert "255 is not a valid" in "".join(said)
