"""Faults put into the GPU path on purpose: which of them do the tests catch?

    python -m tests.gpu.mutate [--list] [NAME...]

Each mutation replaces one piece of source in a copy of the tree and runs there the tests that should
notice. ``survived`` means that they passed all the same: a fault that would reach a vehicle. Exit 0 if
every mutation was caught.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("deeplab_rt/backends/tensorrt")
TESTS = Path("tests/integration/tensorrt")
RUNNER, RULES = TESTS / "test_trt_runner.py", TESTS / "test_trt_rules.py"
KERNELS, BUILDER = TESTS / "test_kernels.py", TESTS / "test_trt_builder.py"
STORE = TESTS / "test_engine_store.py"
TIME_LIMIT_S = 400


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: for the command line and the table.
        file: of the package.
        old: what stands there, exactly once.
        new: what takes its place.
        tests: files that should notice, the likeliest first.
        select: pytest's ``-k``, so that only the likely tests run; empty runs all of the files.
    """

    name: str
    file: Path
    old: str
    new: str
    tests: tuple[Path, ...]
    select: str = ""


def _of(file: str, name: str, old: str, new: str, *tests: Path, select: str = "") -> Mutation:
    return Mutation(name, PACKAGE / file, old, new, tests or (RUNNER, RULES), select)


MASKS = "masks_equal or two_in_flight or small_large"
MUTATIONS = (
    # The ten that once survived.
    _of(
        "runner.py", "external-outside-capture",
        "flags = driver.CUevent_record_flags.CU_EVENT_RECORD_DEFAULT",
        "flags = driver.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL",
        RUNNER, select="says_what_runs",
    ),
    _of(
        "device.py", "events-without-timing",
        "flags = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC",
        "flags = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING",
        RUNNER, select="stage_times",
    ),
    _of(
        "device.py", "capture-mode-global",
        "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL", "CU_STREAM_CAPTURE_MODE_GLOBAL",
        RULES, select="other_threads",
    ),
    _of(
        "device.py", "blocking-streams",
        "CU_STREAM_NON_BLOCKING", "CU_STREAM_DEFAULT",
        RUNNER, select="says_what_runs",
    ),
    _of(
        "runner.py", "buffers-freed-before-the-context",
        "            self._network.close()\n            self._network = None\n"
        "        self._busy.clear()\n        self._free.clear()\n        self._device.close()\n",
        "        self._busy.clear()\n        self._free.clear()\n        self._device.close()\n"
        "        if self._network is not None:\n            self._network.close()\n"
        "            self._network = None\n",
        RUNNER, select="says_what_runs or closed_twice",
    ),
    _of(
        "kernels.cu", "half-read-as-bf16",
        "cvt.f32.f16 %0, %1;", "cvt.f32.bf16 %0, %1;",
        KERNELS, select="rounds",
    ),
    _of(
        "kernels.py", "fast-math",
        'b"--std=c++17", b"--ptxas-options=-v"',
        'b"--std=c++17", b"--ptxas-options=-v", b"--use_fast_math"',
        KERNELS, select="rounds",
    ),
    _of(
        "kernels.py", "cubin-of-sm-75-only",
        'arch = "sm_{}{}".format(*capability)', 'arch = "sm_75"',
        RUNNER, select="says_what_runs",
    ),
    _of(
        "builder.py", "network-not-strongly-typed",
        "network = builder.create_network(typed)", "network = builder.create_network(0 * typed)",
        BUILDER, select="strongly_typed",
    ),
    _of(
        "loaded_engine.py", "host-code-always-allowed",
        "if allow_host_code and engine.spec.options.version_compatible:", "if True:",
        RULES, select="host_code",
    ),
    # Order.
    _of(
        "slots.py", "network-does-not-wait-for-the-upload",
        'check("ordering the upload", driver.cuStreamWaitEvent(main, self.upload_end, 0))', "pass",
        RUNNER, select=MASKS,
    ),
    _of(
        "slots.py", "upload-does-not-wait-for-the-producer",
        'check("waiting for an image", driver.cuStreamWaitEvent(upload, self.produced, 0))', "pass",
        RULES, select="its_stream",
    ),
    _of(
        "slots.py", "producer-does-not-wait-for-the-copy",
        "back = driver.cuStreamWaitEvent(image.stream, self.upload_end, 0)",
        "back = (driver.CUresult.CUDA_SUCCESS,)",
        RULES, select="its_stream",
    ),
    _of(
        "runner.py", "masks-read-before-they-are-there",
        'check("evaluating a frame", driver.cuEventSynchronize(slot.marks[-1]))', "pass",
        RUNNER, select=MASKS,
    ),
    _of(
        "runner.py", "captured-at-first-sight",
        "if plan.ran and not plan.graph", "if not plan.graph",
        RUNNER, RULES, select="says_what_runs or seen_once",
    ),
    _of(
        "runner.py", "close-does-not-drain",
        "self._device.drain(*filter(None, (self._upload, self._main)))", "pass",
        RULES, select="closing_waits",
    ),
    _of(
        "runner.py", "results-in-the-order-of-sizes",
        "return [results[work.order.index(place)] for place in range(len(results))]", "return results",
        RULES, select="three_cameras",
    ),
    _of(
        "device.py", "context-entered-once",
        'check("entering the context", driver.cuCtxSetCurrent(self._context))\n\n    def enter',
        'if not hasattr(self, "_entered"):\n            self._entered = True\n            '
        "driver.cuCtxSetCurrent(self._context)\n\n    def enter",
        RULES, select="made_current",
    ),
    # Memory.
    _of(
        "layout.py", "label-tables-in-the-hosts-memory",
        "            luts=tables,\n", "            luts=down,\n",
        RULES, RUNNER, select="label_tables or groups_may_change",
    ),
    _of(
        "slots.py", "graphs-keep-pointing-to-old-buffers",
        "        while self.plans:\n            self._forget(self.plans.popitem()[1])\n"
        "        if old is not None:",
        "        if old is not None:",
        RUNNER, select="small_large",
    ),
    _of(
        "slots.py", "old-label-tables",
        "if labels is self.labels:", "if self.labels is not None:",
        RUNNER, select="groups_may_change",
    ),
    _of(
        "layout.py", "second-frame-over-the-first",
        "image=tensors.image + index * height * width * 3,", "image=tensors.image,",
        RUNNER, select="batch_of_cameras",
    ),
    _of(
        "slots.py", "plans-pile-up",
        "while len(self.plans) >= PLANS:", "while False:",
        RUNNER, select="pile_up",
    ),
    # Kernels.
    _of(
        "kernels.cu", "ties-to-the-last-class",
        "if (value > best) best = value, winner = c, largest = most;",
        "if (value >= best) best = value, winner = c, largest = most;",
        KERNELS, select="tie or equal",
    ),
    _of(
        "kernels.cu", "channels-not-swapped",
        "const int from = a.swap ? 2 - c : c;", "const int from = c;",
        KERNELS, select="preprocess",
    ),
    # Trust and choice.
    _of(
        "engine_store.py", "anybodys-engine",
        "        if danger := writable_by_others(self.path):\n            raise EngineError(danger)\n",
        "", RULES, select="others_can_write or another_user",
    ),
    _of(
        "engine_spec.py", "engine-of-any-module",
        "ours.device == \"\" or ours.same_device(replace(here, library=ours.library))",
        "ours.device in (\"\", here.device)",
        RULES, select="power_modes",
    ),
    _of(
        "engine_store.py", "wide-engine-before-plain",
        "(one.spec.options != PLAIN, one.spec.max_batch", "(one.spec.max_batch",
        STORE, RULES, select="built_last or plain",
    ),
    _of(
        "loaded_engine.py", "rtx-kernels-lazily",
        "DynamicShapesKernelSpecializationStrategy.EAGER",
        "DynamicShapesKernelSpecializationStrategy.LAZY",
        RULES, select="rtx_compiles",
    ),
    _of(
        "device.py", "a-lost-device-goes-on",
        "    if name in STICKY:",
        "    if False:",
        RUNNER, select="lost_device",
    ),
)  # fmt: skip


def run(mutation: Mutation) -> tuple[str, float]:
    """(``caught``, ``survived`` or ``stale``, seconds)."""
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        return "stale", 0.0  # the source has moved on: the list must follow
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("deeplab_rt", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for name in ("engines", "benchmarks", "docs", "tools"):
            if (ROOT / name).exists():
                (copy / name).symlink_to(ROOT / name)
        (copy / mutation.file).write_text(source.replace(mutation.old, mutation.new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command += ["-k", mutation.select] if mutation.select else []
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy),
            "DEEPLAB_RT_CACHE": str(copy / "cache"),
        }
        try:
            done = subprocess.run(
                [*command, *map(str, mutation.tests)],
                cwd=copy, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "timed out", time.monotonic() - started  # a hang, or a busy machine: try again
    seconds = time.monotonic() - started
    if done.returncode == 0 and " passed" in done.stdout:
        return "survived", seconds
    # Exit 1: a test failed; above: a crash, or no test was selected.
    if done.returncode == 1 or done.returncode < 0:
        return "caught", seconds
    return f"no test ran ({done.stdout.strip()[-120:]})", seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.mutate", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutations to try (default: all)")
    parser.add_argument("--list", action="store_true", help="print their names and end")
    args = parser.parse_args()
    known = {mutation.name: mutation for mutation in MUTATIONS}
    if unknown := set(args.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if args.list:
        print("\n".join(known))
        return 0
    results = {}
    for name in args.names or known:
        results[name], seconds = run(known[name])
        print(
            f"{results[name]:<10} {name:<44} {known[name].file.name:<18} {seconds:5.1f} s",
            flush=True,
        )
    caught = sum(result == "caught" for result in results.values())
    print(f"{caught} of {len(results)} caught")
    return 0 if caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
