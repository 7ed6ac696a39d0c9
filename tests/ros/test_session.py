"""NodeProcess processes of a drive: their environment, their failures, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplab_rt.ros.session import NodeProcess, NodeProcessError, private_network
from deeplab_rt.ros.transport import profile_environment

PATIENCE = 20.0


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``pretender`` that children run in place of a node; its source is the test's."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "pretender.py"


def test_a_private_network_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    before = dict(os.environ)
    with private_network():
        assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
        assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert all(Path(os.environ[name]).is_file() for name in profile_environment())
    assert dict(os.environ) == before


def test_parameters_keep_their_types(module: Path, tmp_path: Path) -> None:
    module.write_text("import sys\nprint(open(sys.argv[-1]).read())\n")
    with NodeProcess("pretender", {"input": "0", "rate": 0.0, "loop": True}, tmp_path) as child:
        assert child.process.wait(PATIENCE) == 0
        child.check(may_end=True)
        with pytest.raises(NodeProcessError, match=r"pretender has ended \(exit code 0\)"):
            child.check()
        text = child.log.read_text()
    # A camera's number is a text, not a number, to ROS.
    assert "input: '0'" in text and "rate: 0.0" in text and "loop: true" in text


def test_a_failure_is_told_with_its_last_words(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "[ERROR] [1700000000.123] [deeplab]: cannot configure: no model"
    module.write_text(f"import sys\nprint('before')\nprint({words!r})\nsys.exit(3)\n")
    with NodeProcess("pretender", {}, tmp_path) as child:
        child.process.wait(PATIENCE)
        with pytest.raises(
            NodeProcessError, match=r"^pretender has ended \(exit code 3\): cannot con"
        ):
            child.check(may_end=True)
        assert str(child.error("cannot configure")) == "pretender cannot configure: no model"
    assert "before" in capsys.readouterr().err


def test_one_that_does_not_listen_is_killed(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplab_rt.ros.session.STOP_S", 0.2)
    module.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)\n"
    )
    with NodeProcess("pretender", {}, tmp_path) as child:
        while "deaf" not in child.log.read_text():
            child.check()
    assert child.process.returncode == -signal.SIGKILL


def test_a_child_ends_with_a_parent_that_was_killed(module: Path, tmp_path: Path) -> None:
    module.write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time\n"
            "from deeplab_rt.ros.session import NodeProcess\n"
            "child = NodeProcess('pretender', {}, pathlib.Path(sys.argv[1]))\n"
            "while 'ready' not in child.log.read_text():\n"
            "    child.check()\n"
            "print(child.process.pid, flush=True)\n"
            "time.sleep(600)\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert _runs(pid)
    parent.kill()
    parent.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether the process is there and more than an entry that nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
