"""A short slice of the attacks; ``python -m tests.fuzz`` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import attack, table

SLICE = {
    "truncated": 12,
    "flipped": 12,
    "videos": 8,
    "images": 8,
    "checkpoints": 12,
    "manifests": 20,
    "labels": 20,
    "recipes": 12,
    "kills": 8,
}
NODE = {"messages": 2, "parameters": 25, "transitions": 10}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("counts", [SLICE, NODE], ids=["files", "node"])
def test_a_slice_of_the_attacks_finds_nothing(counts: dict[str, int], tmp_path: Path) -> None:
    rows = attack(counts, 600, 0, tmp_path, verbose=False)
    failures = [(row.kind.name, index, outcome) for row in rows for index, outcome in row.failures]
    assert not failures, f"{failures[:3]}\n{table(rows)}"
    assert all(row.done for row in rows), table(rows)
