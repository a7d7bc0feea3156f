"""How often a slice is called weak that is not, and how often one that is is found: simulated splits.

    scripts/slices_level [WORLDS]

Words, a column and lengths as in real texts; errors in 12 % of rows. In half of the worlds rows with one word are wrong more often.
A finding is false where neither that word nor the length (to which the word adds) is part of it. docs/results/slices.md has what it printed.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from hf_trainpipe.metrics.errors import Errors
from hf_trainpipe.metrics.slice_search import weak_slices
from hf_trainpipe.metrics.slices import RowFacts
from hf_trainpipe.utils.tables import table

WORDS, USUAL, WEAK = 60, 0.12, (0.25, 0.40)


def world(seed: int, rows: int, weak: float, tags: bool) -> tuple[Errors, RowFacts, np.ndarray]:
    """Errors, what is known of the rows, and hashes of their inputs."""
    random = np.random.Generator(np.random.Philox(seed))
    has = random.random((rows, WORDS)) < 0.3 / np.arange(1, WORDS + 1) ** 0.6 + 0.03
    rate = np.where(has[:, 5], weak, USUAL)
    lengths = has.sum(axis=1) + random.integers(0, 5, rows).astype(float)
    units = random.poisson(0.6 * lengths) if tags else np.ones(rows, dtype=np.int64)
    facts = RowFacts(
        size=rows,
        words={f"w{word}": np.flatnonzero(has[:, word]) for word in range(WORDS)},
        values={"channel": random.choice(["web", "phone", "mail", "shop"], rows)},
        numbers={"tokens": lengths},
    )
    wrong = random.binomial(units, rate).astype(float)
    errors = Errors(score="entity_f1" if tags else "accuracy", wrong=wrong, units=units.astype(float))
    return errors, facts, random.integers(0, 1 << 63, rows, dtype=np.uint64)


def measure(worlds: int, rows: int, weak: float, tags: bool) -> list[str]:
    """A row of the table."""
    begun, any_false, shares, hits, covered, gaps = time.monotonic(), 0, [], 0, 0, []
    for seed in range(worlds):
        errors, facts, hashes = world(seed, rows, weak, tags)
        found = weak_slices(errors, facts, hashes).found
        true = [one for one in found if weak > USUAL and ('"w5"' in str(one.slice) or "tokens" in str(one.slice))]
        any_false += len(true) < len(found)
        shares.append((len(found) - len(true)) / max(1, len(found)))
        planted = next((one for one in found if str(one.slice) == 'has "w5"'), None)
        if planted is not None:
            hits += 1
            covered += planted.low <= 1 - weak <= planted.high
            gaps.append((planted.score - (1 - weak), (planted.searched or planted.score) - (1 - weak)))
    tested, searched = np.mean(gaps, axis=0) if gaps else (np.nan, np.nan)
    return [
        "entities" if tags else "answers", f"{rows:,}", "none" if weak == USUAL else f"{weak:.0%}", f"{any_false / worlds:.1%}",
        f"{np.mean(shares):.1%}", f"{hits / worlds:.0%}" if weak > USUAL else "", f"{covered / hits:.0%}" if hits else "",
        f"{100 * tested:+.1f}" if hits else "", f"{100 * searched:+.1f}" if hits else "",
        f"{1000 * (time.monotonic() - begun) / worlds:.0f}",
    ]  # fmt: skip


def main() -> None:
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    head = [
        "errors of",
        "rows",
        "weak",
        "any false",
        "false share",
        "found",
        "covered",
        "points off",
        "while chosen",
        "ms",
    ]
    rows = [
        measure(worlds, size, weak, tags)
        for tags in (False, True)
        for size in (300, 1000, 3000)
        for weak in (USUAL, *WEAK)
    ]
    print(f"{worlds} worlds a row\n\n{table(head, rows, width=120)}")


if __name__ == "__main__":
    main()
