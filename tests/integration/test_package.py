"""What pip, colcon and ament see of the package."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import deeplab_rt
from deeplab_rt.commands import COMMANDS
from tests.conftest import REPOSITORY

SETUP = ast.parse((REPOSITORY / "setup.py").read_text(encoding="utf-8"))


def setup_argument(name: str) -> ast.expr:
    (call,) = (
        n for n in ast.walk(SETUP) if isinstance(n, ast.Call) and ast.unparse(n.func) == "setup"
    )
    return next(keyword.value for keyword in call.keywords if keyword.arg == name)


def test_one_version_everywhere() -> None:
    package = ElementTree.parse(REPOSITORY / "package.xml").getroot()
    assert package.findtext("version") == deeplab_rt.__version__
    assert ast.literal_eval(setup_argument("version")) == deeplab_rt.__version__
    assert f"## {deeplab_rt.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_package_xml_is_an_ament_python_package() -> None:
    package = ElementTree.parse(REPOSITORY / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("name") == "deeplab_rt"
    assert package.findtext("export/build_type") == "ament_python"
    assert (REPOSITORY / "resource" / "deeplab_rt").is_file()


def test_every_ros_package_that_is_imported_is_declared() -> None:
    package = ElementTree.parse(REPOSITORY / "package.xml").getroot()
    declared = {element.text for element in package.iter("exec_depend")}
    ros = re.compile(r"^(rclpy|\w+_msgs|std_srvs|builtin_interfaces|ament_index_python|tf2_ros)$")
    for path in (REPOSITORY / "deeplab_rt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                assert not ros.match(top) or top in declared, f"{path}: {top} is not in package.xml"


def test_console_scripts_exist() -> None:
    scripts = ast.literal_eval(setup_argument("entry_points"))["console_scripts"]
    assert scripts
    for script in scripts:
        module, function = script.split("=")[1].strip().split(":")
        source = REPOSITORY / Path(*module.split("."))
        path = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
        functions = [
            n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)
        ]
        assert function in functions, script


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    module = importlib.import_module(f"deeplab_rt.commands.{name}")
    assert callable(module.run)
    result = subprocess.run(
        [sys.executable, "-m", "deeplab_rt", name, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"deeplab_rt {name}" in result.stdout


def test_wrong_usage_exits_with_2() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "deeplab_rt", "fly"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert "invalid choice" in result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from deeplab_rt.commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = ('cv2', 'numba', 'openvino', 'torch', 'rclpy', 'tensorrt', 'cuda')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.stderr.strip() == "[]"


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for document in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_a_wheel_holds_what_a_ros_package_shares(tmp_path: Path) -> None:
    """Installed by pip or colcon, the package is found by ament_index and its models by name."""
    source = tmp_path / "source"  # pip builds in the source tree and would leave its traces there
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY, source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "pip", "-qq", "wheel", "--no-deps", "-w", tmp_path, source],
        check=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.split(".data/data/")[-1] for name in zipfile.ZipFile(wheel).namelist()}
    shared = {
        "share/ament_index/resource_index/packages/deeplab_rt",
        "share/deeplab_rt/package.xml",
    }
    for folder in ("launch", "config", "engines"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                shared.add(f"share/deeplab_rt/{path.relative_to(REPOSITORY)}")
    for path in (REPOSITORY / "deeplab_rt").rglob("*"):
        if path.suffix in (".py", ".yaml", ".cu") and "__pycache__" not in path.parts:
            shared.add(str(path.relative_to(REPOSITORY)))
    assert shared <= names, sorted(shared - names)


def test_setup_runs_through_a_link_as_colcon_symlink_install_runs_it(tmp_path: Path) -> None:
    (tmp_path / "setup.py").symlink_to(REPOSITORY / "setup.py")
    command = [sys.executable, "setup.py", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == deeplab_rt.__version__
