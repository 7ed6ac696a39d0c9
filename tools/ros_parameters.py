"""Write what follows from the node's parameters: their table in docs/ros.md, and the parameter file.

``python -m tools.ros_parameters``. A test compares both with the parameters.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from deeplab_rt.ros.parameters import SECTIONS, Settings, When

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ros.md"
FILE = ROOT / "config" / "segmenter.yaml"
BEGIN, END = (
    "<!-- parameters: written by `python -m tools.ros_parameters` -->\n",
    "<!-- end of parameters -->\n",
)
WHEN: dict[When, str] = {
    "running": "while running",
    "deactivate": "after `deactivate`",
    "cleanup": "after `cleanup`",
    "start": "at start only",
}
HEAD = """\
# Parameters of segmenter_node, as segmenter.launch.py takes them by default. Copy it, change what your
# vehicle needs and give it with `params_file:=FILE`. Written by `python -m tools.ros_parameters`.
# Numbers with a point must keep it (100.0, not 100): ROS parameters are typed.
/**:
  ros__parameters:
"""


def markdown_table() -> str:
    """The parameters as a table for the documentation."""
    lines = ["| parameter | default | values | may change | meaning |", "|---|---|---|---|---|"]
    for parameter in fields(Settings):
        metadata = parameter.metadata
        lines.append(
            f"| `{parameter.name}` | `{_default(parameter)}` | {_values(parameter)} "
            f"| {WHEN[metadata['when']]} | {metadata['description']} |"
        )
    return "\n".join(lines) + "\n"


def parameter_file() -> str:
    """The parameter file: every parameter at its default under its description."""
    text = HEAD
    for parameter in fields(Settings):
        if parameter.metadata["when"] == "start":
            continue
        if parameter.name in SECTIONS:
            text += f"\n    ## {SECTIONS[parameter.name]}\n"
        choices = parameter.metadata["choices"]
        values = f" One of: {', '.join(choices)}." if choices else ""
        when = WHEN[parameter.metadata["when"]].replace("`", "")
        words = parameter.metadata["description"].replace("`", "") + values + f" ({when})"
        text += textwrap.indent("\n".join(textwrap.wrap(words, 100)), "    # ") + "\n"
        text += f"    {parameter.name}: {_default(parameter)}\n"
    return text.replace("ros__parameters:\n\n", "ros__parameters:\n")


def generated_files() -> dict[Path, str]:
    """What the files should hold."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        PAGE: before + BEGIN + "\n" + markdown_table() + "\n" + END + after,
        FILE: parameter_file(),
    }


def _default(parameter: Field[Any]) -> str:
    """In YAML."""
    default = parameter.default
    shown = {True: "true", False: "false", "": "''", (): "['']"}
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return str(default) if number else shown.get(default, str(default))


def _values(parameter: Field[Any]) -> str:
    metadata = parameter.metadata
    if metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    if metadata["bounds"]:
        return "{:g} to {:g}".format(*metadata["bounds"])
    return {"str": "text", "bool": "`true`, `false`"}.get(str(parameter.type), "names")


def main() -> int:
    """Write the files and name them."""
    for path, text in generated_files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
