"""Dataclasses from plain values: every field of the right type and in its range, or named."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_rt.errors import DataError
from deeplab_rt.field_checks import dataclass_from


@dataclass(frozen=True)
class Options:
    steps: int = 1
    rate: float = 0.5
    minutes: float | None = None
    name: str = ""
    on: bool = False
    size: tuple[int, int] = (1, 2)
    rates: tuple[float, ...] = ()
    crops: tuple[tuple[int, int], ...] = ()


def read(values: Any) -> Options:
    return dataclass_from(
        Options, values, "recipe: loop", DataError, {"steps": (1, 9), "crops": (1, 9)}
    )


def test_plain_values_become_fields() -> None:
    made = read({"steps": 3, "rate": 1, "minutes": None, "on": True, "crops": [[1, 2], [3, 4]]})
    assert made == Options(steps=3, rate=1, on=True, crops=((1, 2), (3, 4)))
    assert read({}) == Options()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected a mapping, not \\[\\]"),
        (None, "expected a mapping, not None"),
        ({"step": 1}, "unknown key 'step'; it has steps, rate"),
        ({5: 1}, "unknown key 5"),
        ({"steps": "3"}, "steps is '3'; expected a whole number"),
        ({"steps": True}, "steps is True; expected a whole number"),
        ({"steps": 2.0}, "steps is 2.0; expected a whole number"),
        ({"steps": 0}, "steps is 0; expected 1 to 9"),
        ({"rate": float("nan")}, "rate is nan; expected a number"),
        ({"rate": float("inf")}, "rate is inf; expected a number"),
        ({"rate": 2**70}, "rate is .*expected a number"),
        ({"name": None}, "name is None; expected text"),
        ({"size": [1]}, "size is \\[1\\]; expected a list of"),
        ({"size": 1}, "size is 1; expected a list of"),
        ({"rates": [1, "x"]}, "rates is .*expected a list of"),
        ({"crops": [[1, 99]]}, "crops is .*expected 1 to 9"),
        ({"name": ["x" * 5000]}, "name is .*x\\.\\.\\.; expected text"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"recipe: loop: {message}"):
        read(values)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*Options.__dataclass_fields__, "other"])


@given(st.one_of(ANY, st.dictionaries(FIELDS, ANY, max_size=3)))
def test_any_value_is_taken_or_refused(values: Any) -> None:
    made = Options()
    with suppress(DataError):
        made = read(values)
    assert type(made.rates) is tuple
    if made != Options():
        assert type(made.steps) is int and 1 <= made.steps <= 9
        assert type(made.name) is str and len(made.size) == 2
