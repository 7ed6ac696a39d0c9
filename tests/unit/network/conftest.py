"""The tiny encoder is there for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from tests.unit.network.tiny import tiny_encoder


@pytest.fixture(autouse=True, scope="session")
def _tiny_encoder() -> Iterator[None]:
    with tiny_encoder():
        yield
