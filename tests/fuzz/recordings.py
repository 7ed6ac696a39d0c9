"""Bags, videos and images: cut off, with flipped bits, and made to hurt."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2

from tests.fuzz import corpus
from tests.fuzz.outcome import Outcome, Run
from tests.fuzz.pool import Case


def truncated_bag(case: Case, folder: Path) -> Outcome:
    """A bag of which one file ends early."""
    return _damaged_bag(case, folder, _truncate)


def flipped_bag(case: Case, folder: Path) -> Outcome:
    """A bag with one flipped bit."""
    return _damaged_bag(case, folder, _flip)


def video(case: Case, folder: Path) -> Outcome:
    """A video that ends early or has up to 8 flipped bits."""
    rng = case.rng()
    suffix = sorted(corpus.VIDEOS)[case.index % len(corpus.VIDEOS)]
    sound = corpus.video(suffix, folder)
    expected = _expected(sound, folder)
    path = Path(shutil.copy(sound, "."))
    if case.index // len(corpus.VIDEOS) % 2:
        _truncate(path, rng)
    else:
        for _ in range(rng.choice([1, 1, 2, 8])):
            _flip(path, rng)
    run, masks = corpus.replayed(path, folder)
    return _judge(run, masks, expected, has_checksums=False)


def image(case: Case, folder: Path) -> Outcome:
    """A folder of one sound image and one that is damaged or made to hurt."""
    rng = case.rng()
    place = Path("images")
    place.mkdir()
    sound = corpus.images(folder)
    (place / "sound.png").write_bytes(sound[".png"])
    makers = sorted(_IMAGES)
    if case.index < len(makers):
        _IMAGES[makers[case.index]](place)
    else:
        suffix = sorted(sound)[case.index % len(sound)]
        path = place / f"damaged{suffix}"
        path.write_bytes(sound[suffix])
        (_truncate if rng.random() < 0.6 else _flip)(path, rng)
    count = len([path for path in place.iterdir() if path.name != "sound.png"])
    run, masks = corpus.replayed(place, folder)
    if outcome := run.failure():
        return outcome
    told = bool(run.result.get("warnings")) or run.code != 0
    if "sound.labels.png" not in {path.name for path in Path("masks").glob("*")}:
        return Outcome("silent loss", f"the sound image was not segmented: {run.err}")
    if len(masks) < 1 + count and not told:
        return Outcome("silent loss", f"{len(masks)} masks of {1 + count} images")
    return Outcome("told", _words(run)) if len(masks) < 1 + count else Outcome("altered")


def _damaged_bag(
    case: Case, folder: Path, damage: Callable[[Path, random.Random], None]
) -> Outcome:
    rng = case.rng()
    name = list(corpus.BAGS)[case.index % len(corpus.BAGS)]
    sound = corpus.bag(name, folder)
    topic = ["--topic", corpus.TOPICS[name]]
    expected = _expected(sound, folder, *topic)
    copy = Path(sound.name)
    if sound.is_dir():
        shutil.copytree(sound, copy)
        files = sorted(copy.iterdir())
        damage(rng.choices(files, [path.stat().st_size for path in files])[0], rng)
    else:
        shutil.copy(sound, copy)
        damage(copy, rng)
    run, masks = corpus.replayed(copy, folder, *topic)
    return _judge(run, masks, expected, name in corpus.CHECKSUMS)


def _expected(sound: Path, folder: Path, *arguments: str) -> list[str]:
    """The hashes of a sound recording's masks."""
    path = folder / f"{sound.parent.name}-{sound.name}.expected"
    with corpus.made_once(path) as needed:
        if needed:
            run, masks = corpus.replayed(sound, folder, *arguments)
            shutil.rmtree("masks", ignore_errors=True)
            if run.code or run.result.get("warnings") or len(set(masks)) != corpus.FRAMES:
                raise AssertionError(f"{sound} is not sound: {run}, {len(set(masks))} masks")
            path.write_text(json.dumps(masks))
    masks = json.loads(path.read_text())
    return list(masks)


def _judge(run: Run, masks: list[str], expected: list[str], has_checksums: bool) -> Outcome:
    if outcome := run.failure():
        return outcome
    missing = Counter(expected) - Counter(masks)
    other = Counter(masks) - Counter(expected)
    told = run.code != 0 or bool(run.result.get("warnings"))
    if not missing and not other:
        return Outcome("told", _words(run)) if told else Outcome("whole")
    lost = missing.total() - other.total()
    if told:
        return Outcome("told", _words(run))
    if lost > 0:
        return Outcome("silent loss", f"{lost} of {len(expected)} frames, exit code 0, no warning")
    if other.total() > missing.total():
        return Outcome("silent loss", f"{len(masks)} frames came of {len(expected)}")
    if has_checksums:
        return Outcome("silent loss", f"{other.total()} frames are other ones; checksums say so")
    return Outcome("altered")


def _words(run: Run) -> str:
    return (run.err.strip() or str(run.result.get("warnings")))[:500]


def _truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


# Images made to hurt. Each writes one file, or what stands in a file's place, into a folder.


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _bomb(suffix: str) -> Callable[[Path], None]:
    """A small file of a size that takes the better part of a gigabyte when decoded.

    It is made by another process: this one's memory is watched.
    """
    code = (
        "import cv2, numpy, sys; flat = numpy.zeros((16_000, 16_000, 3), numpy.uint8); "
        "assert cv2.imwrite(sys.argv[1], flat)"
    )

    def make(place: Path) -> None:
        subprocess.run([sys.executable, "-c", code, str(place / f"bomb{suffix}")], check=True)

    return make


def _content(name: str, content: bytes) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        (place / name).write_bytes(content)

    return make


def _cut_jpeg(place: Path) -> None:
    content = cv2.imencode(".jpg", corpus.frames((96, 128))[7])[1].tobytes()
    (place / "cut.jpg").write_bytes(content[: len(content) * 2 // 3])


def _cut_jpeg_with_end(place: Path) -> None:
    content = cv2.imencode(".jpg", corpus.frames((96, 128))[7])[1].tobytes()
    (place / "cut.jpg").write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")


def _link(target: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        (place / "link.png").symlink_to(target)

    return make


def _fifo(place: Path) -> None:
    os.mkfifo(place / "fifo.png")


def _directory(place: Path) -> None:
    (place / "directory.png").mkdir()


def _unreadable(place: Path) -> None:
    (place / "sparse.png").touch()
    os.truncate(place / "sparse.png", 1 << 40)


_BMP = b"BM" + struct.pack(
    "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, *[0] * 6
)
_IMAGES: dict[str, Callable[[Path], None]] = {
    "bomb.jpg": _bomb(".jpg"),
    "bomb.png": _bomb(".png"),
    "bomb.webp": _bomb(".webp"),
    "bomb.tif": _bomb(".tif"),
    "claims.png": _content("claims.png", _png(60_000, 60_000, zlib.compress(b"\0" * 1000))),
    "narrow.png": _content("narrow.png", _png(1, 2**31 - 1, zlib.compress(b"\0" * 1000))),
    "zero.png": _content("zero.png", _png(0, 0, b"")),
    "claims.bmp": _content("claims.bmp", _BMP),
    "claims.pgm": _content("claims.pgm", b"P5\n99999 99999\n255\n"),
    "negative.ppm": _content("negative.ppm", b"P6\n-5 -5\n255\n" + b"x" * 100),
    "endless.ppm": _content("endless.ppm", b"P3\n" + b"9" * 100_000),
    "empty.jpg": _content("empty.jpg", b""),
    "text.png": _content("text.png", b"this is no image\n" * 100),
    "html.jpg": _content("html.jpg", b"<html><script>alert(1)</script></html>"),
    "zeros.webp": _content("zeros.webp", bytes(1 << 20)),
    "cut.jpg": _cut_jpeg,
    "cut with end.jpg": _cut_jpeg_with_end,
    "fifo.png": _fifo,
    "directory.png": _directory,
    "sparse.png": _unreadable,
    "zero device": _link("/dev/zero"),
    "random device": _link("/dev/urandom"),
    "loop": _link("link.png"),
    "dangling": _link("nowhere"),
    "long name": _content(f"{'n' * 251}.png", b"x"),
    "newline": _content("a\nb.png", b"x"),
}
