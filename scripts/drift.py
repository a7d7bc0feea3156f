"""How often `watch` is wrong, and what it finds: a package for AG News, 20 references, a year of windows each.

    scripts/drift --data-dir DIR --folder WORK                # train, measure all texts once, then simulate; ten minutes of a core
    scripts/drift --data-dir DIR --folder WORK --evidently    # and Evidently's defaults on the same vectors, in an environment of its
                                                              # own that is made in WORK (pandas 2)

The package (recipes/ag_news.py with `model.head="probe"`) learns from 2,000 texts. All others, those of the test set among them, are
measured once by the package (8,000 of them), as `watch` does it, and kept in WORK as numbers. A reference is 2,000 of them, and windows of 200
are drawn from those that are left: no text of the reference comes back. Foreign texts are those of other data sets. "Found" means an
alarm in one of the first three windows that have foreign texts.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import time
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.utils.tables import table
from hf_trainpipe.watch.measure import Measured, joined, measure
from hf_trainpipe.watch.profile import Profile, make_profile
from hf_trainpipe.watch.sequence import Promise, Windows

ROOT = Path(__file__).resolve().parents[1]
LEARNT = 2_000
REFERENCE, WINDOW, YEAR, REFERENCES = 2_000, 200, 365, 20
NEWS, FOREIGN = 8_000, 1_000
SHARES = (0.02, 0.05, 0.1, 0.2)
STARTS = (1, 101)
LONG = 38
"""Words of a text from Wikipedia: as many as the news have, so that length tells nothing."""
CHUNK = 1_000


def rows_of(file: Path, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> list[list[str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, delimiter=delimiter, quoting=quoting))


def texts_of(data: Path) -> dict[str, list[str]]:
    """Texts by set: ``news``, which the package has not learnt from, and foreign ones."""
    news = [row[1] for row in rows_of(data / "ag_news/train_sample.csv.gz")[1:]][LEARNT:]
    news += [f"{title} {text}" for _, title, text in rows_of(data / "ag_news/test.csv.gz")]
    sms = [row[1] for row in rows_of(data / "sms_spam/SMSSpamCollection.gz", "\t", csv.QUOTE_NONE)]
    bank = [row[0] for row in rows_of(data / "banking77/train.csv.gz")[1:]]
    films = [row[0] for row in rows_of(data / "sst2/train.tsv.gz", "\t", csv.QUOTE_NONE)[1:] if len(row[0]) > 60]
    squad = json.loads(gzip.decompress((data / "squad_v1/dev-v1.1.json.gz").read_bytes()))["data"]
    wiki = [" ".join(one["context"].split()[:LONG]) for article in squad for one in article["paragraphs"]]
    chosen = {"sms": sms, "banking": bank, "films": films, "wiki": list(dict.fromkeys(wiki))}
    random = np.random.default_rng(0)
    return {"news": list(dict.fromkeys(news))[:NEWS]} | {
        name: [texts[row] for row in random.permutation(len(texts))[:FOREIGN]] for name, texts in chosen.items()
    }


def package(data: Path, folder: Path) -> Path:
    """The package, trained once."""
    run = folder / "news"
    if not (run / "result.json").is_file():
        splits = {"train": LEARNT, "validation": 400, "test": 1_000}
        rows = {name: [[name, list(range(count))]] for name, count in splits.items()}
        (folder / "rows.json").write_text(json.dumps(rows))
        subprocess.run(
            [
                sys.executable, "-m", "hf_trainpipe", "train", f"{ROOT / 'recipes/ag_news.py'}:files", "--data.root",
                str(data / "ag_news"), "--rows", str(folder / "rows.json"), "--model.head", "probe", "--budget.max-steps", "10",
                "--optim.precision", "fp32", "--run-dir", str(run),
            ],
            check=True,
        )  # fmt: skip
    return run / "package"


def measured(data: Path, folder: Path) -> dict[str, Measured]:
    """Every text as the package measures it; what was measured before is read."""
    predictor: Predictor | None = None
    found: dict[str, Measured] = {}
    for name, texts in texts_of(data).items():
        parts = []
        for start in range(0, len(texts), CHUNK):
            file = folder / f"measured-{name}-{start}.npz"
            if not file.is_file():
                predictor = predictor or Predictor.load(package(data, folder))
                begin = time.perf_counter()
                one, _ = measure(predictor, texts[start : start + CHUNK])
                np.savez(file, **{name: array for name, array in vars(one).items() if array is not None})
                print(
                    f"{name}: {start + len(one):,} of {len(texts):,} texts, {time.perf_counter() - begin:.0f} s",
                    flush=True,
                )
            parts.append(Measured(**dict(np.load(file))))
        found[name] = joined(parts)
    return found


def drawn(random: np.random.Generator, rest: Measured, foreign: Measured | None, share: float) -> Measured:
    """A window: texts of the traffic, a share of them foreign, in an order of chance."""
    count = int(random.binomial(WINDOW, share)) if foreign is not None else 0
    plain = rest.take(random.choice(len(rest), WINDOW - count, replace=False))
    if foreign is None or not count:
        return plain
    both = joined([plain, foreign.take(random.choice(len(foreign), count, replace=False))])
    return both.take(random.permutation(WINDOW))


def references(news: Measured) -> Iterator[tuple[int, Profile, Measured]]:
    """References with the texts that are left for traffic."""
    for number in range(REFERENCES):
        order = np.random.default_rng(number).permutation(len(news))
        yield number, make_profile(news.take(order[:REFERENCE]), source="news"), news.take(order[REFERENCE:])


def simulate(texts: dict[str, Measured], folder: Path) -> list[dict[str, Any]]:
    """Of each reference a year without a drift, and drifts that begin in its first window or after a hundred; kept in ``folder``."""
    news = texts.pop("news")
    for number, profile, rest in references(news):
        file = folder / f"year-{number}.json"
        if file.is_file():
            continue
        begin, random = time.perf_counter(), np.random.default_rng([1, number])
        year = Windows(profile=profile, promise=Promise(), seed=number)
        readings = profile.read(rest)
        found: list[list[Any]] = []
        for window in range(1, YEAR + 1):
            if window in STARTS:
                found += [
                    [name, share, window, _found(year, random, rest, foreign, share)]
                    for name, foreign in texts.items()
                    for share in SHARES
                ]
            chosen = random.choice(len(rest), WINDOW, replace=False)
            year.take({name: array[chosen] for name, array in readings.items()}, [str(row) for row in chosen])
        highest = {name: max(one["log_money"][name] for one in year.history) for name in profile.signals}
        alarm = None if year.alarm is None else [year.alarm["window"], *year.alarm["signals"]]
        file.write_text(json.dumps({"alarm": alarm, "highest": highest, "found": found}))
        print(
            f"reference {number + 1} of {REFERENCES}: {alarm or 'no alarm'}, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    return [json.loads((folder / f"year-{number}.json").read_text()) for number in range(REFERENCES)]


def _found(year: Windows, random: np.random.Generator, rest: Measured, foreign: Measured, share: float) -> list[str]:
    """The signals that raise an alarm in three windows with foreign texts, from where a year stands."""
    copy = Windows(profile=year.profile, promise=year.promise, seed=year.seed, windows=year.windows)
    copy.evidence = {name: type(one).from_json(one.to_json(), two_sided=one.two_sided, horizon=one.horizon)
                     for name, one in year.evidence.items()}  # fmt: skip
    copy.pool = {name: list(parts) for name, parts in year.pool.items()}
    for _ in range(3):
        window = drawn(random, rest, foreign, share)
        copy.take(year.profile.read(window), ["-"] * WINDOW)
    return [] if copy.alarm is None else list(copy.alarm["signals"])


def shown(years: list[dict[str, Any]]) -> str:
    """What came of all references."""
    alarms = sum(year["alarm"] is not None for year in years)
    found, by = Counter[tuple[str, float, int]](), Counter[tuple[str, str]]()
    for year in years:
        for name, share, start, signals in year["found"]:
            found[name, share, start] += bool(signals)
            by.update((name, signal) for signal in signals if share == 0.1)
    head = ["foreign texts", "from window", *(f"{share:.0%}" for share in SHARES)]
    names = dict.fromkeys(name for year in years for name, *_ in year["found"])
    rows = [
        [name, str(start), *(f"{found[name, share, start]} of {len(years)}" for share in SHARES)]
        for name in names
        for start in STARTS
    ]
    highest = {name: max(year["highest"][name] for year in years) for name in years[0]["highest"]}
    told = [f"{name} by {signal} {count}" for (name, signal), count in sorted(by.items())]
    most = ", ".join(f"{name} {np.exp(one):.2g}" for name, one in highest.items())
    lines = [
        f"{alarms} of {len(years)} references ever alarm in {YEAR} windows without a drift",
        f"the most evidence in any of these windows, of 120 that an alarm needs: {most}",
        "",
        "an alarm within three windows, by the share of foreign texts:",
        table(head, rows),
        "",
        f"at 10 %, of {len(STARTS) * len(years)}: {', '.join(told)}",
    ]
    return "\n".join(lines)


def beside(texts: dict[str, Measured], folder: Path) -> None:
    """Evidently's drift methods for embeddings on the same references and windows, in an environment of its own."""
    home = folder / "evidently"
    if not (home / "bin/python").exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin/pip", "install", "-q", "evidently==0.7.23", "pandas<3"], check=True)
    news, arrays = texts["news"], {}
    assert news.vectors is not None
    for number in range(REFERENCES):
        order = np.random.default_rng(number).permutation(len(news))
        rest, random = news.take(order[REFERENCE:]), np.random.default_rng([2, number])
        arrays[f"reference-{number}"] = news.vectors[order[:REFERENCE]]
        for kind, foreign in (("null", None), *((name, texts[name]) for name in texts if name != "news")):
            arrays[f"{kind}-{number}"] = np.stack([drawn(random, rest, foreign, 0.1).vectors for _ in range(3)])
    np.savez(folder / "evidently.npz", **arrays)
    subprocess.run([home / "bin/python", ROOT / "scripts/drift_evidently.py", folder / "evidently.npz"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--evidently", action="store_true")
    parser.add_argument("--only", choices=("measure", "windows", "evidently"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    texts = measured(arguments.data_dir, arguments.folder)
    if arguments.only in (None, "windows"):
        print(shown(simulate(dict(texts), arguments.folder)))
    if arguments.evidently or arguments.only == "evidently":
        beside(texts, arguments.folder)


if __name__ == "__main__":
    main()
