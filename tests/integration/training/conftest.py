"""The tiny encoder and the data set of the unit tests."""

from __future__ import annotations

from tests.unit.training.conftest import _tiny_encoder, pictures

__all__ = ["_tiny_encoder", "pictures"]
