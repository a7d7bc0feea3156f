"""Evidently's drift methods for embeddings with their defaults; run by scripts/drift in an environment of its own (pandas 2).

    python scripts/drift_evidently.py WORK/evidently.npz

Of each reference: is there an alarm in one of three windows without a drift, and of each kind of foreign text, in one of three
windows of which a tenth is foreign. Evidently has no memory of earlier windows: over a year the first share only grows.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import pandas as pd
from evidently.legacy.metrics.data_drift.embedding_drift_methods import distance, mmd, model, ratio

warnings.filterwarnings("ignore")
METHODS = {"model": model(), "ratio": ratio(), "distance": distance(), "mmd": mmd()}


def frame(vectors: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(vectors, columns=[f"v{number}" for number in range(vectors.shape[1])])


def main() -> None:
    arrays = np.load(sys.argv[1])
    numbers = [int(name.partition("-")[2]) for name in arrays if name.startswith("reference-")]
    kinds = list(dict.fromkeys(name.partition("-")[0] for name in arrays if not name.startswith("reference-")))
    print("of", len(numbers), "references, an alarm in one of three windows:", flush=True)
    for name, method in METHODS.items():
        begin, found = time.perf_counter(), []
        for kind in kinds:
            alarms = sum(
                any(
                    bool(method(frame(window), frame(arrays[f"reference-{number}"]))[1])
                    for window in arrays[f"{kind}-{number}"]
                )
                for number in numbers
            )
            found.append(f"{kind} {alarms}")
        print(f"  {name}: {', '.join(found)} ({time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
