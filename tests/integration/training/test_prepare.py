"""Data sets taken from a git directory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deeplab_rt.training.prepare import prepare
from tests.unit.training.test_prepare import source

__all__ = ["source"]  # a fixture


def test_a_git_directory_without_a_work_tree_gives_the_same(source: Path, tmp_path: Path) -> None:
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    bare = tmp_path / "bare"
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(bare)], check=True)
    folder = prepare("cityscapes_pairs", source / "cityscapes" / "..", tmp_path / "a", quiet=True)
    from_git = prepare("cityscapes_pairs", bare, tmp_path / "b", quiet=True)
    assert len(from_git["commit"]) == 40
    assert folder["splits"] == from_git["splits"]
