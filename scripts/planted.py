"""What ``audit`` finds of faults that are planted in real data, and whether its counts are those of a plain recount.

    scripts/planted --data-dir FOLDER --out FILE.jsonl [--only sms_spam banking77]     # continues behind the file
    scripts/planted --table FILE.jsonl

Into the training split of each set go 300 duplicates (a third exact, the others with another case, signs or spaces), 200 near ones by
one or two edits of characters (that are near by the definition), 5 % wrong labels, 50 empty texts and a column that gives the label
away. The recount is written without the package: sets of characters' 5-grams in plain Python. ``phrases`` and ``rows200k`` measure
time and memory alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from datasets import Dataset

from hf_trainpipe import Files, Recipe, TextClassification, replace
from hf_trainpipe.audit.whole import Audit, audit
from hf_trainpipe.recipe_file import load

ROOT = Path(__file__).resolve().parent.parent
SETS = {
    "sms_spam": "", "sst2": "sst2", "ag_news": "ag_news", "banking77": "banking77", "go_emotions": "go_emotions",
    "sick": "sick", "stsb": "stsb", "wnut17": "wnut17",
}  # fmt: skip
"""Data sets, and the recipes that read their files."""
PAIRS = {"sick": ("sentence_A", "sentence_B"), "stsb": ("sentence1", "sentence2")}
TEXT = {"sst2": "sentence", "wnut17": "tokens"}
LABEL = {"go_emotions": "labels", "wnut17": "ner_tags"}
Row = dict[str, Any]


def read(name: str, folder: Path) -> tuple[Recipe, dict[str, list[Row]]]:
    """The recipe of a set, and its splits as rows."""
    recipe, _ = load(f"{ROOT}/recipes/{SETS[name] or 'banking77'}.py:files")
    if name == "sms_spam":
        data: Any = Files(
            train="SMSSpamCollection.gz", validation=0.2, seed=42, stratify="label", format="tsv", quoting="none",
            header=("label", "text"), root=str(folder / name),
        )  # fmt: skip
        recipe = replace(recipe, name=name, data=data, task=TextClassification())
    else:
        recipe = replace(recipe, data=replace(recipe.data, root=str(folder / name)))
    splits = recipe.data.splits()
    kept = [column for column in splits["train"].column_names if not column.startswith("__")]
    return recipe, {split: [{c: row.get(c) for c in kept} for row in rows] for split, rows in splits.items()}


# -- the plain recount: no code of the package ---------------------------------------------------------------------------


def plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if c.isalnum()) or text


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    if name in PAIRS:
        return tuple(row[column] or "" for column in PAIRS[name])
    cell = row[TEXT.get(name, "text")]
    return (" ".join(cell) if isinstance(cell, list) else cell or "",)


def same_key(row: Row, name: str) -> Any:
    if name == "wnut17":
        return tuple(unicodedata.normalize("NFKC", word).casefold() for word in row["tokens"])
    return tuple(map(plain, texts_of(row, name)))


def grams(text: str) -> frozenset[str]:
    return frozenset(text[at : at + 5] for at in range(max(len(text) - 4, 1)))


def are_near(one: frozenset[str], two: frozenset[str]) -> bool:
    return 5 * len(one & two) >= 4 * len(one | two)


def near_texts(texts: Sequence[str]) -> set[tuple[str, str]]:
    """All near pairs of different texts, through the rarest grams of each."""
    sets = {text: grams(text) for text in texts}
    often: defaultdict[str, int] = defaultdict(int)
    for held in sets.values():
        for gram in held:
            often[gram] += 1
    known: defaultdict[str, list[str]] = defaultdict(list)
    found = set()
    for text, held in sorted(sets.items(), key=lambda item: (len(item[1]), item[0])):
        prefix = sorted(held, key=lambda gram: (often[gram], gram))[: len(held) - math.ceil(4 * len(held) / 5) + 1]
        for other in {other for gram in prefix for other in known[gram]}:
            if are_near(held, sets[other]):
                found.add((min(text, other), max(text, other)))
        for gram in prefix:
            known[gram].append(text)
    return found


def recount(splits: dict[str, list[Row]], name: str) -> dict[str, Any]:
    """Counts of rows that repeat each other, by the definitions."""
    rows = [(split, texts_of(row, name), same_key(row, name)) for split, found in splits.items() for row in found]
    raw = {
        split: [json.dumps(row, sort_keys=True, default=str) for row in _inputs(found, name)]
        for split, found in splits.items()
    }
    normals = {key: tuple(map(plain, texts)) for _, texts, key in rows}
    related: list[set[tuple[str, str]]] = [
        near_texts(sorted({normal[at] for normal in normals.values()})) for at in range(len(rows[0][1]))
    ]
    partners: defaultdict[Any, set[Any]] = defaultdict(set)
    by_part: defaultdict[tuple[int, str], list[Any]] = defaultdict(list)
    for key, normal in normals.items():
        by_part[0, normal[0]].append(key)
    first = related[0] | {(text, text) for _, text in by_part}
    for one, two in first:
        for a in by_part[0, one]:
            for b in by_part[0, two]:
                if a != b and all(
                    x == y or (min(x, y), max(x, y)) in related[at]
                    for at, (x, y) in enumerate(zip(normals[a], normals[b], strict=True))
                ):
                    partners[a].add(b)
                    partners[b].add(a)
    counts: dict[str, Any] = {}
    names = list(splits)
    keys = {split: [key for of, _, key in rows if of == split] for split in names}
    for at, split in enumerate(names):
        here = set(keys[split])
        counts[f"{split} exact"] = len(raw[split]) - len(set(raw[split]))
        counts[f"{split} same"] = len(keys[split]) - len(here)
        counts[f"{split} near rows"] = sum(bool(partners[key] & here) for key in keys[split])
        for other in names[:at]:
            there, told = set(keys[other]), set(raw[other])
            kinds = ["exact" if text in told else "same" if key in there else "near" if partners[key] & there else "" for text, key in
                     zip(raw[split], keys[split], strict=True)]  # fmt: skip
            counts |= {f"{split} in {other} {kind}": kinds.count(kind) for kind in ("exact", "same", "near")}
    return counts


def _inputs(rows: list[Row], name: str) -> Iterator[Any]:
    for row in rows:
        yield row["tokens"] if name == "wnut17" else texts_of(row, name)


def counts_of(found: Audit) -> dict[str, Any]:
    """The same counts as the audit has them."""
    twins, counts = found.twins, {}
    for at, split in enumerate(found.corpus.names):
        counts[f"{split} exact"] = len(twins.repeats(twins.exact, split))
        counts[f"{split} same"] = len(twins.repeats(twins.same, split))
        counts[f"{split} near rows"] = len(twins.near_within(split)[0])
        for other in found.corpus.names[:at]:
            counts |= {f"{split} in {other} {kind}": len(rows) for kind, rows in twins.across(split, other).items()}
    return counts


# -- faults -------------------------------------------------------------------------------------------------------------------


def edited(text: str, drawn: random.Random) -> str:
    """One or two edits of letters."""
    for _ in range(drawn.choice((1, 2))):
        at = drawn.randrange(len(text))
        text = drawn.choice((text[:at] + "x" + text[at:], text[:at] + text[at + 1 :], text[:at] + "q" + text[at + 1 :]))
    return text


def with_texts(row: Row, name: str, change: Any) -> Row:
    """A copy of a row with its (first) text changed."""
    column = PAIRS[name][0] if name in PAIRS else TEXT.get(name, "text")
    cell = row[column]
    if isinstance(cell, list):
        at = max(range(len(cell)), key=lambda at: len(cell[at]))
        return {**row, column: [*cell[:at], change(cell[at]), *cell[at + 1 :]]}
    return {**row, column: change(cell)}


def plant(rows: list[Row], name: str, kind: str, *, seed: int) -> tuple[list[Row], dict[str, Any]]:
    """Rows with faults, and where they are."""
    drawn, rows = random.Random(seed), [dict(row) for row in rows]
    label, original = LABEL.get(name, "label"), len(rows)
    flips: list[int] = []
    if kind in ("class", "number"):
        flips = sorted(drawn.sample(range(original), round(0.05 * original)))
        values = sorted({row[label] for row in rows}, key=str)
        for at in flips:
            old = rows[at][label]
            others = values if kind == "number" else [value for value in values if value != old]
            far = [value for value in others if kind == "class" or abs(float(value) - float(old)) >= 1.5]
            rows[at][label] = drawn.choice(far or others)
    duplicates, near = [], []
    for number, at in enumerate(drawn.sample(range(original), 300)):
        shout = (lambda text: text) if number % 3 == 0 or name == "wnut17" else (lambda text: f" {text.upper()} !!")
        duplicates.append((at, len(rows)))
        rows.append(with_texts(rows[at], name, shout))
    while len(near) < 200:
        at = drawn.randrange(original)
        new = with_texts(rows[at], name, lambda text: edited(text, drawn))
        old_texts, new_texts = (tuple(map(plain, texts_of(row, name))) for row in (rows[at], new))
        pairs = [(grams(a), grams(b)) for a, b in zip(old_texts, new_texts, strict=True)]
        if old_texts != new_texts and all(are_near(a, b) for a, b in pairs):
            near.append((at, len(rows)))
            rows.append(new)
    flips += [
        copy for source, copy in (*duplicates, *near) if source in set(flips)
    ]  # a copy of a wrong label is as wrong
    empty = []
    for number in range(50):
        empty.append(len(rows))
        blank: Any = [" "] if name == "wnut17" else ("", "  ")[number % 2]
        column = PAIRS[name][0] if name in PAIRS else TEXT.get(name, "text")
        rows.append({**rows[number], column: blank, **({label: ["O"]} if name == "wnut17" else {})})
    for number, row in enumerate(rows):
        row["batch"] = f"{row[label]}/{number}"
    return rows, {"flips": flips, "duplicates": duplicates, "near": near, "empty": empty}


def measured(name: str, folder: Path, *, seed: int) -> dict[str, Any]:
    """Figures of one set."""
    recipe, splits = read(name, folder)
    begun = time.perf_counter()
    before = audit(recipe.task, _datasets(splits), recipe=recipe, learns=False)
    seconds = time.perf_counter() - begun
    wanted, counted = recount(splits, name), counts_of(before)
    kind = before.corpus.kind or ""
    rows, planted = plant(splits["train"], name, kind, seed=seed)
    begun = time.perf_counter()
    found = audit(recipe.task, _datasets({**splits, "train": rows}), recipe=recipe)
    whole = time.perf_counter() - begun
    twins = found.twins
    near = {tuple(pair) for pair in twins.near.tolist()}
    hit = sum(twins.same[a] == twins.same[b] for a, b in planted["duplicates"])
    close = sum(tuple(sorted((int(twins.same[a]), int(twins.same[b])))) in near for a, b in planted["near"])
    empty = next(one.count for one in found.findings if (one.kind, one.split) == ("empty", "train"))
    result = {
        "set": name, "rows": sum(map(len, splits.values())), "counts": counted, "equal": wanted == counted,
        "differ": {key: [wanted[key], counted[key]] for key in wanted if wanted[key] != counted[key]},
        "seconds": round(seconds, 1), "seconds_learnt": round(whole, 1), "duplicates": int(hit), "near": int(close),
        "wrong_near": wrong_near(found), "empty": empty,
        "column": any(one.kind == "leaking-column" and one.facts["column"] == "batch" for one in found.findings),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip
    if found.suspects is not None and planted["flips"]:
        flips, suspects = set(planted["flips"]), found.suspects
        first = suspects.rows.tolist()[: len(flips)]
        listed = suspects.rows.tolist()[: suspects.listed]
        result |= {
            "flips": len(flips),
            "precision_at_k": round(sum(row in flips for row in first) / len(first), 3),
            "listed": len(listed),
            "true": round(sum(row in flips for row in listed) / max(1, len(listed)), 3),
            "stated": round(suspects.precision, 3),
            "model": suspects.told,
        }
    return result


def wrong_near(found: Audit) -> int:
    """Pairs that the audit calls near and the definition does not."""
    twins, corpus = found.twins, found.corpus
    row_of = {int(code): row for row, code in enumerate(twins.same.tolist())}
    wrong = 0
    for one, two in twins.near.tolist():
        a, b = row_of[one], row_of[two]
        texts = [(plain(held[a]), plain(held[b])) for held in corpus.texts.values()]
        wrong += not all(x == y or are_near(grams(x), grams(y)) for x, y in texts)
    return wrong


def _datasets(splits: dict[str, list[Row]]) -> dict[str, Dataset]:
    return {split: Dataset.from_list(rows) for split, rows in splits.items()}


def large(name: str, folder: Path) -> dict[str, Any]:
    """Time and memory on many rows."""
    phrases = Files(train="train.tsv.gz", validation="dev.tsv", quoting="none", root=str(folder / "sst2")).splits()
    rows = [(row["sentence"], row["label"]) for row in phrases["train"]]
    splits = {"train": rows, "validation": [(row["sentence"], row["label"]) for row in phrases["validation"]]}
    if name == "rows200k":
        drawn = random.Random(0)
        rows = [
            *rows,
            *((f"{a} {b}", x) for (a, x), (b, _) in (drawn.sample(rows, 2) for _ in range(200_000 - len(rows)))),
        ]
        splits["train"] = rows
    held = {
        split: Dataset.from_dict({"text": [t for t, _ in of], "label": [y for _, y in of]})
        for split, of in splits.items()
    }
    begun, cpu = time.perf_counter(), time.process_time()
    found = audit(TextClassification(), held)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "set": name, "rows": sum(map(len, splits.values())), "seconds_learnt": round(time.perf_counter() - begun, 1),
        "seconds_cpu": round(time.process_time() - cpu, 1), "megabytes": peak, "near_pairs": len(found.twins.near),
        "skipped": found.twins.skipped,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", default=[*SETS, "phrases", "rows200k"])
    parser.add_argument("--out", type=Path, default=Path("planted.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.table is not None:
        table([json.loads(line) for line in arguments.table.read_text().splitlines()])
        return
    done = (
        {json.loads(line)["set"] for line in arguments.out.read_text().splitlines()}
        if arguments.out.exists()
        else set()
    )
    for name in arguments.only:
        if name not in done:
            of = (
                measured(name, arguments.data_dir, seed=arguments.seed)
                if name in SETS
                else large(name, arguments.data_dir)
            )
            with arguments.out.open("a") as file:
                file.write(json.dumps(of) + "\n")
            print(json.dumps(of), flush=True)


def table(found: list[dict[str, Any]]) -> None:
    """The figures as Markdown."""
    print(
        "| set | rows | counts = recount | duplicates of 300 | near of 200 | wrong near pairs | empty of 50 | column | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for one in found:
        if "counts" in one:
            told = "yes" if one["equal"] else str(one["differ"])
            column = "found" if one["column"] else "-"
            print(
                f"| {one['set']} | {one['rows']:,} | {told} ({len(one['counts'])}) | {one['duplicates']} | {one['near']} | "
                f"{one['wrong_near']} | {one['empty']} | {column} | {one['seconds']} |"
            )
    print(
        "\n| set | flips | precision among as many | listed | of them flips | stated | model | s |\n|---|---|---|---|---|---|---|---|"
    )
    for one in found:
        if "flips" in one:
            print(
                f"| {one['set']} | {one['flips']} | {one['precision_at_k']:.2f} | {one['listed']} | {one['true']:.2f} | "
                f"{one['stated']:.2f} | {one['model']} | {one['seconds_learnt']} |"
            )
    print("\n| rows | seconds of a core | MB at most | near pairs | pairs not compared |\n|---|---|---|---|---|")
    for one in found:
        if "skipped" in one:
            print(
                f"| {one['rows']:,} | {one['seconds_cpu']} | {one['megabytes']:,} | {one['near_pairs']:,} | {one['skipped']:,} |"
            )


if __name__ == "__main__":
    main()
