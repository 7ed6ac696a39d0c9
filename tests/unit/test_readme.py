"""The README's Python example, run as it stands."""

from __future__ import annotations

import doctest
import re

import pytest

from deeplab_rt.models import Model
from tests.conftest import REPOSITORY


def examples(text: str) -> doctest.DocTest:
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    sessions = "\n".join(block for block in blocks if ">>>" in block)
    return doctest.DocTestParser().get_doctest(sessions, {}, "README.md", "README.md", 0)


def failures(text: str) -> tuple[int, str]:
    """How many examples fail, and how."""
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(
        examples(text), out=told.append
    )
    return result.failed, "".join(told)


def test_the_python_example_says_what_it_does() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(examples(text).examples) >= 6
    assert failures(text) == (0, "")


@pytest.mark.parametrize("wrong", ["(479, 640)", "dtype('int8')"])
def test_a_wrong_answer_is_noticed(wrong: str, palette_model: Model) -> None:
    shown = f"""```python
>>> from deeplab_rt import Segmenter
>>> import numpy as np
>>> with Segmenter({str(palette_model.directory)!r}, "cpu") as segmenter:
...     labels = segmenter.segment(np.zeros((480, 640, 3), np.uint8)).labels
>>> labels.shape, labels.dtype
({wrong if wrong[0] == "(" else "(480, 640)"}, {wrong if wrong[0] == "d" else "dtype('uint8')"})
```
"""
    failed, told = failures(shown)
    assert failed == 1 and "Got:\n    ((480, 640), dtype('uint8'))" in told
