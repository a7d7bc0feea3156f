"""What a temperature and a promise come to on predictions that are recorded, of runs or of baselines; nothing is trained.

    scripts/calibration runs/banking77 FILE.npz ...   # seconds

Each file of a run's ``predictions/``, or one that is named: the temperature that is chosen on it, its negative log-likelihood on rows
that it was not chosen on with the paired interval of the gain, and whether it is kept; the calibration error before and after, beside
what exact probabilities would show; the share of rows that is answered with a promise of 95 % and 98 %, and the bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_trainpipe.metrics.calibration import keep_promise, nested_temperature
from hf_trainpipe.metrics.reliability import chances_of, reliability
from hf_trainpipe.metrics.saved import folder_of, load

HEAD = (
    "predictions",
    "rows",
    "labels",
    "temperature",
    "likelihood",
    "gain",
    "kept",
    "error before",
    "after",
    "exact",
    "0.95",
    "0.98",
)


def row(name: str, file: Path) -> list[str] | None:
    """A row of the table; None of predictions without probabilities."""
    held = load(file).predictions
    found, before = (
        nested_temperature(held) if held.kind in ("single_label", "multi_label") else None,
        reliability(held),
    )
    if found is None or before is None:
        return None
    after = reliability(found.held_out)
    assert after is not None
    gain = found.gain
    cells = [
        name, f"{len(held):,}", str(held.num_labels), f"{found.value:.3f}", f"{gain.first:.4f} to {gain.second:.4f}",
        f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]", "yes" if found.helps() else "no",
        f"{before.error:.4f} [{before.low:.4f}, {before.high:.4f}]", f"{after.error:.4f}",
        f"{before.perfect:.4f}, below {before.perfect_high:.4f}",
    ]  # fmt: skip
    chances = chances_of(held)
    for promised in (0.95, 0.98):
        if held.kind != "single_label" or chances is None:
            cells.append("")
            continue
        kept = keep_promise(chances[0][:, 0], chances[1][:, 0], promised)
        cells.append(f"{kept.answered:.1%}, at least {kept.at_least:.1%}" if kept.answered else "none")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recorded", type=Path, nargs="+", help="folders of runs, or files of predictions")
    given = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for place in given.recorded:
        for file in sorted(folder_of(place).glob("*.npz")) if place.is_dir() else [place]:
            if (cells := row(f"{place.name if place.is_dir() else place.parent.name} {file.stem}", file)) is not None:
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
