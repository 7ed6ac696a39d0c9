"""``python -m tests.fuzz``: every attack within a time budget, and a table of what came of it.

Cases of all kinds are mixed in a fixed order, so that a small budget still tries every kind; the same
seed gives the same cases. Exit code 1 if anything went wrong that must not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.outcome import BAD, GOOD, Outcome
from tests.fuzz.pool import Case, Worker


@dataclass
class Row:
    """What came of the cases of one kind."""

    kind: Kind
    planned: int
    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*GOOD, *BAD), 0))
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """How many cases were run."""
        return sum(self.verdicts.values())

    def add(self, index: int, outcome: Outcome, seconds: float) -> None:
        """Count an outcome."""
        self.verdicts[outcome.verdict] += 1
        self.seconds += seconds
        if outcome.verdict in BAD:
            self.failures.append((index, outcome))


def attack(
    counts: dict[str, int],
    budget_s: float,
    seed: int,
    folder: Path,
    skip: int = 0,
    verbose: bool = True,
) -> list[Row]:
    """Run cases until all are done or the time is over.

    Args:
        counts: kind -> number of cases.
        budget_s: no case is begun after so many seconds.
        seed: of everything random.
        folder: for the corpus.
        skip: number of the first case of each kind, to go on where another run has ended.
        verbose: print what goes wrong when it does.
    """
    rows = {name: Row(KINDS[name], count) for name, count in counts.items()}
    # Of every kind the same share at any time: a case's place is where it is in its own kind.
    order = sorted(
        ((index + 0.5) / count, name, skip + index)
        for name, count in counts.items()
        for index in range(count)
    )
    end = time.monotonic() + budget_s
    with Worker({name: KINDS[name].run for name in counts}, folder) as worker:
        for _, name, index in order:
            started = time.monotonic()
            if started > end:
                break
            outcome = worker.run(Case(name, index, seed))
            rows[name].add(index, outcome, time.monotonic() - started)
            if verbose and outcome.verdict in BAD:
                print(f"{name} {index}: {outcome.verdict}: {outcome.detail[-1500:]}", flush=True)
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    names = ["attack", "cases", *GOOD, *BAD, "s"]
    lines = [
        [row.kind.title, f"{row.done} of {row.planned}"]
        + [str(row.verdicts[name]) for name in (*GOOD, *BAD)]
        + [f"{row.seconds:.0f}"]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [names, *lines]) for i in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [names, *lines]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attacks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--budget", type=float, default=600.0, metavar="S", help="seconds in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--count", type=int, metavar="N", help="of each kind, instead of its own")
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="number of the first case"
    )
    parser.add_argument("--case", metavar="KIND:N", help="one case alone, in full")
    parser.add_argument("--folder", type=Path, help="keeps the corpus (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON too")
    args = parser.parse_args(argv)
    with _folder(args.folder) as folder:
        if args.case:
            name, _, index = args.case.partition(":")
            with Worker({name: KINDS[name].run}, folder) as worker:
                print(worker.run(Case(name, int(index), args.seed)))
            return 0
        counts = {name: args.count or KINDS[name].count for name in args.only}
        rows = attack(counts, args.budget, args.seed, folder, args.first)
    print(table(rows))
    if args.json:
        print(json.dumps({row.kind.name: {"cases": row.done, **row.verdicts} for row in rows}))
    return 1 if any(row.failures for row in rows) else 0


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="deeplab_rt_fuzz_") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
