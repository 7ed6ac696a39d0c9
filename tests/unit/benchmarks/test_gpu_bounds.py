"""Bounds computed by hand and by the code."""

from __future__ import annotations

import pytest

from benchmarks.gpu_bounds import DEVICES, Device, arithmetic_ms, layers_ms, table
from deeplab_rt.bench.roofline import Layer, Work

# 1 GMAC that moves 4 MB in fp32, and a copy of 400 MB
WORK = Work(
    [
        Layer("pointwise", "a", macs=10**9, bytes=4 * 10**6, arithmetic="fp32"),
        Layer("no MACs", "b", macs=0, bytes=400 * 10**6, arithmetic="fp32"),
    ]
)
DEVICE = Device("d", {"fp16": 10, "int8": 20}, 100, "")


def test_arithmetic_counts_two_operations_for_one_mac() -> None:
    assert arithmetic_ms(WORK, DEVICE, "fp16") == pytest.approx(0.2)  # 2e9 / 10e12 s
    assert arithmetic_ms(WORK, DEVICE, "int8") == pytest.approx(0.1)


def test_each_layer_is_bound_by_what_it_lacks() -> None:
    assert layers_ms(WORK, DEVICE, "fp16") == pytest.approx(0.2 + 2.0)  # 200 MB at 100 GB/s
    assert layers_ms(WORK, DEVICE, "int8") == pytest.approx(0.1 + 1.0)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_published_peaks_fit_together(device: Device) -> None:
    """INT8 is twice FP16 on every one of them, and every row says where it comes from."""
    assert device.tera_ops["int8"] == 2 * device.tera_ops["fp16"]
    assert "NVIDIA" in device.source
    for precision in ("fp16", "int8"):
        assert layers_ms(WORK, device, precision) > arithmetic_ms(WORK, device, precision) > 0


def test_table_has_a_row_for_every_device() -> None:
    rows = table(WORK).splitlines()
    assert len(rows) == 2 + len(DEVICES)
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| Orin Nano 8 GB | 0.20 ms |")
