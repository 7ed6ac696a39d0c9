"""Values on the command line."""

from __future__ import annotations

import argparse

import pytest

from deeplab_rt.commands.arguments import (
    argument,
    parse_count,
    parse_shard,
    parse_time,
    parse_weight,
)


def test_values_that_are_understood() -> None:
    for text, seconds in (("7.5", 7.5), ("01:30", 90.0), ("1:02:03.5", 3723.5), ("0", 0.0)):
        assert parse_time(text) == seconds
    assert parse_shard("2/8") == (2, 8) and parse_shard(" 1/1 ") == (1, 1)
    assert parse_count("12") == 12 and parse_weight("0.25") == 0.25


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (parse_time, ("", "x", "-1", "1:60", "1:2:3:4", "nan", "inf", "1:-2")),
        (parse_shard, ("0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3")),
        (parse_count, ("0", "-3", "1.5", "", "x", "9" * 20)),
        (parse_weight, ("-0.1", "1.1", "nan", "", "half")),
    ],
)
def test_values_that_are_none(parse: object, texts: tuple[str, ...]) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            argument(parse)(text)  # type: ignore[arg-type]
