"""Run the GPU tests on this machine, from nothing: `make test-gpu [PLATFORM=...]`.

Makes an environment for the platform (.venv-gpu-PLATFORM), installs what the GPU tests need, runs them
and leaves one page to send back in gpu-report.txt. The standard library alone, any Python from 3.10 on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_platforms() -> ModuleType:
    """``platforms.py`` by its path: the package itself needs NumPy, which is not there yet."""
    path = ROOT / "deeplab_rt" / "backends" / "tensorrt" / "platforms.py"
    spec = importlib.util.spec_from_file_location("gpu_platforms", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str] | None = None) -> int:
    platforms = load_platforms()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--platform", default="", help=f"one of {', '.join(platforms.PLATFORMS)} (default: guessed)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument("tests", nargs="*", help="more arguments for pytest")
    args = parser.parse_args(arguments)
    platform = args.platform
    if not platform:
        platform, why = platforms.guess()
        if platform is None:
            print(
                f"test-gpu: {why}; give the platform: make test-gpu PLATFORM="
                f"{'|'.join(platforms.PLATFORMS)}",
                file=sys.stderr,
            )
            return 2
        print(f"test-gpu: {platform} ({platforms.PLATFORMS[platform].what}), since {why}")
    if platform not in platforms.PLATFORMS:
        known = ", ".join(platforms.PLATFORMS)
        print(f"test-gpu: unknown platform {platform!r}; known: {known}", file=sys.stderr)
        return 2
    folder = ROOT / f".venv-gpu-{platform}"
    commands = platforms.environment_commands(platform, folder, sys.executable)
    report = ROOT / "gpu-report.txt"
    test = [str(folder / "bin" / "python"), "-m", "pytest", "-m", "gpu", "tests/gpu", *args.tests]
    if args.dry_run:
        print("\n".join(shlex.join(command) for command in (*commands, test)))
        return 0
    ready = folder / ".ready"
    if not ready.is_file() or ready.stat().st_mtime < (ROOT / "setup.py").stat().st_mtime:
        for command in commands:
            print(f"test-gpu: {shlex.join(command)}", flush=True)
            if subprocess.run(command, cwd=ROOT).returncode:
                print("test-gpu: this command failed; see above", file=sys.stderr)
                return 1
        ready.touch()
    environment = {**os.environ, "DEEPLAB_RT_GPU_REPORT": str(report)}
    code = subprocess.run(test, cwd=ROOT, env=environment).returncode
    print(f"test-gpu: the page to send back is {report}")
    return code


if __name__ == "__main__":
    sys.exit(main())
