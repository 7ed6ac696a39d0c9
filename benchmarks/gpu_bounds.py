"""The least time that the GPU kernels of a frame can take, from published peaks.

Bound, not measured: bytes over published memory bandwidth or operations over published arithmetic,
whichever is longer, kernel by kernel; launches, latencies and caches are left out. Operations were
counted by hand in the source. The network is not in it. ``python -m benchmarks.gpu_bounds`` prints
the table of docs/gpu.md.

Assumptions: network input 640x480, stride-4 logits of 11 classes in half, three masks of the frame's
size, a tenth of the mask's pixels in cells at label borders (16 % with random logits, fewer on real
frames). An operation is one fp32 or integer instruction of one lane, which is half of a published FLOP.
"""

from __future__ import annotations

from dataclasses import dataclass

NETWORK = (480, 640)
CLASSES = 11
BORDERS = 0.1
PLACE = 36  # operations of a mask's pixel: its place on the grid, four winners, two table look-ups
BLEND = 25  # of a class at a border: 4 loads and conversions, 9 of interpolation, 8 of comparison
FRAMES = ((480, 640), (1080, 1920))


@dataclass(frozen=True)
class Device:
    """Published peaks.

    Attributes:
        memory: bytes a second.
        operations: fp32 lanes x clock, a second.
        bus: bytes a second between host and device each way; 0 where they share their memory.
    """

    name: str
    memory: float
    operations: float
    bus: float


DEVICES = (
    Device("Orin Nano 8 GB", 68e9, 1024 * 625e6, 0),
    Device("AGX Orin 64 GB", 204.8e9, 2048 * 1300e6, 0),
    Device("RTX 4090", 1008e9, 16384 * 2520e6, 31.5e9),
)


@dataclass(frozen=True)
class Cost:
    """What a kernel must do."""

    name: str
    bytes: float
    operations: float


def kernels(frame: tuple[int, int]) -> list[Cost]:
    """The kernels of a frame of (height, width)."""
    pixels = frame[0] * frame[1]
    inputs = NETWORK[0] * NETWORK[1]
    grid = inputs // 16
    logits = 2 * CLASSES * grid
    return [
        # Each of three channels: 4 loads, 6 multiplications and 8 additions, shifts and packing.
        Cost("preprocess", 3 * pixels + 3 * inputs, 18 * 3 * inputs),
        # Each logit: a conversion, a check and a comparison with its two selections.
        Cost("winners", logits + grid, 6 * CLASSES * grid),
        Cost("masks", grid + logits + 3 * pixels, (PLACE + BORDERS * CLASSES * BLEND) * pixels),
    ]


def bound_us(cost: Cost, device: Device) -> float:
    """Microseconds."""
    return 1e6 * max(cost.bytes / device.memory, cost.operations / device.operations)


def bus_us(frame: tuple[int, int], device: Device) -> float:
    """Microseconds that a frame up and three masks down take on the bus."""
    return 1e6 * 6 * frame[0] * frame[1] / device.bus if device.bus else 0.0


def table() -> str:
    """In Markdown."""
    head = "| frame and masks | kernel | MB moved | M operations |"
    lines = [head + "".join(f" {device.name} |" for device in DEVICES)]
    lines.append("|---" * (4 + len(DEVICES)) + "|")
    for frame in FRAMES:
        size = f"{frame[1]}x{frame[0]}"
        costs = kernels(frame)
        for cost in costs:
            cells = "".join(f" {bound_us(cost, device):.1f} us |" for device in DEVICES)
            numbers = f" {cost.bytes / 1e6:.2f} | {cost.operations / 1e6:.1f} |"
            lines.append(f"| {size} | {cost.name} |{numbers}{cells}")
        totals = [sum(bound_us(cost, device) for cost in costs) for device in DEVICES]
        cells = "".join(f" {total:.1f} us |" for total in totals)
        lines.append(f"| {size} | all three | | |{cells}")
        every = Cost("", costs[-1].bytes, (PLACE + CLASSES * BLEND) * frame[0] * frame[1])
        cells = "".join(f" {bound_us(every, device):.1f} us |" for device in DEVICES)
        numbers = f" {every.bytes / 1e6:.2f} | {every.operations / 1e6:.1f} |"
        lines.append(f"| {size} | masks, were every pixel interpolated |{numbers}{cells}")
        cells = "".join(
            f" {bus_us(frame, device):.1f} us |" if device.bus else " none |" for device in DEVICES
        )
        lines.append(
            f"| {size} | bus, frame up and masks down | {6 * frame[0] * frame[1] / 1e6:.2f} | |{cells}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
