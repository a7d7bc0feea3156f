"""A package's answers for gpu_predict.py, in a process of its own: ``hf_trainpipe.load(PACKAGE, precision=...)``.

Prints a line of JSON, the last on its standard output; ``--answers`` gets label and score of each text.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from workloads import open_workload, read_rows

WARMUP = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=("predict",))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--way", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--times", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    options = parser.parse_args()
    import hf_trainpipe

    workload = open_workload(options.folder)
    texts = [row["text"] for row in read_rows(workload.folder / "validation.jsonl")][: options.count]
    precision = options.way.rpartition("-")[2]
    package = hf_trainpipe.load(options.package, device=options.device, precision=precision)
    package.predict(texts[:WARMUP], top_k=1)
    seconds = []
    for _ in range(options.times):
        started = time.perf_counter()
        answers = package.predict(texts, top_k=1)
        seconds.append(time.perf_counter() - started)
    options.answers.write_text(json.dumps([(one[0]["label"], one[0]["score"]) for one in answers]))
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
