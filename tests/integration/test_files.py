"""What a killed process leaves behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from deeplab_rt.files import PartialFile, leftovers


def test_leftovers_of_a_killed_process_are_told_from_a_running_one(tmp_path: Path) -> None:
    target = tmp_path / "drive.mp4"
    code = """
        import os, signal, sys
        from pathlib import Path
        from deeplab_rt.files import PartialFile
        partial = PartialFile(Path(sys.argv[1]))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(target)], check=False, timeout=60
    )
    with PartialFile(target) as running:
        (found,) = leftovers(target)
        assert found != running.path and found.name.endswith(".partial.mp4")
    assert leftovers(tmp_path / "other.mp4") == []
    assert leftovers(tmp_path / "absent" / "drive.mp4") == []
