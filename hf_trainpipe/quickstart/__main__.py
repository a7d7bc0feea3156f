"""Write the messages to csv files, to read them or to train on them as files.

python -m hf_trainpipe.quickstart --out DIR
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from hf_trainpipe.quickstart.messages import SupportMessages


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m hf_trainpipe.quickstart", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train.csv, validation.csv, test.csv")
    parser.add_argument("--seed", type=int, default=SupportMessages.seed, help="another seed, other messages")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for split, rows in SupportMessages(seed=options.seed).messages().items():
        path = options.out / f"{split}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "intent"))
            writer.writerows(rows)
        print(f"{path}: {len(rows):,} messages")


if __name__ == "__main__":
    main()
