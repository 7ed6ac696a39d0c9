"""A bag that does not fit onto a disk."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import zstandard

from deeplab_rt.errors import StreamError
from deeplab_rt.streams.bag_reader import BagImages


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_compressed_file_that_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount does not work here")
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        path = tmp_path / "bag.mcap.zstd"
        path.write_bytes(zstandard.ZstdCompressor().compress(bytes(100 << 20)))
        with pytest.raises(StreamError, match="does not fit into .* set TMPDIR"):
            BagImages(path)
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
