"""Whether a search that is killed again and again is the search that was not.

    scripts/study_kills --ranks 1 --kills 20 --trials 16
    scripts/study_kills --ranks 2 --kills 20 --trials 16

`tune` searches a tiny model's settings twice, in two folders. The second one is killed with SIGKILL at random instants: the verb
itself, one process of the run that it has begun, or all of them at once; then the same command continues. Both must leave the same
trials with the same values, states, scores and curves, the same finalists, and the same winner's weights, byte for byte; no trial
may have begun twice; after each kill of the verb its run must end by itself. What is done already is not done again: the command
continues in the folder, `--minutes` at a time.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.testing import tiny_model, tiny_rows, write_rows

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("the verb", "a process of the run", "everything")
ENDS_WITHIN_S = 120.0
"""From the verb's death until its run has saved and ended."""
RECIPE = """
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens, main
from hf_trainpipe.studies import Choice, Integer, LogUniform, Space


def recipe():
    return Recipe(
        name="tiny",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv", test="test.csv"),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-3, precision="fp32"),
        budget=Budget(epochs=3, examples_per_step=16, log_every=4, save_every=5, evaluate_every=7),
        evaluation=Evaluation(select="accuracy", resamples=20),
    )


def space():
    return Space(
        {
            "optim.peak_lr": LogUniform(3e-5, 3e-2),
            "budget.epochs": Integer(2, 4),
            "optim.warmup": Choice(0.0, 0.1),
            "task.label_smoothing": Choice(0.0, 0.1),
        }
    )


if __name__ == "__main__":
    main(recipe)
"""


def make(folder: Path) -> None:
    """The tiny model, 300 texts and the recipe."""
    tiny_model(folder / "model")
    for name, count, seed in (("train", 300, 1), ("dev", 97, 2), ("test", 97, 3)):
        write_rows(folder / f"{name}.csv", tiny_rows(count, seed=seed))
    (folder / "recipe.py").write_text(RECIPE)


def command(study: str, options: argparse.Namespace) -> list[str]:
    counts = ["--trials", str(options.trials), "--finalists", "2", "--seeds", "1", "--parallel", str(options.parallel)]
    return [
        sys.executable,
        "-m",
        "hf_trainpipe",
        "tune",
        "recipe.py",
        "--study-dir",
        study,
        "--ranks",
        str(options.ranks),
        *counts,
    ]


def begin(study: str, options: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{study}.log").open("ab") as log:
        return subprocess.Popen(command(study, options), cwd=folder, env=dict(os.environ), stdout=log, stderr=log)


def surroundings(folder: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_TRAINPIPE_CACHE": str(folder / "cache"),
        "HF_TRAINPIPE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def owners(study: Path) -> list[psutil.Process]:
    """Rank 0 of each run that is at work."""
    found = []
    for lock in study.glob("*/*/run.lock"):
        if is_locked(lock):
            with contextlib.suppress(psutil.Error, ValueError, KeyError):
                found.append(psutil.Process(json.loads(lock.read_text())["pid"]))
    return found


def strike(process: subprocess.Popen[bytes], way: str, chance: random.Random, study: Path) -> str | None:
    """Kill; what was killed, or None where there was nothing to kill."""
    below = list({*psutil.Process(process.pid).children(recursive=True), *owners(study)})
    below.sort(key=lambda one: one.pid)
    if way == "the verb":
        process.kill()
    elif way == "a process of the run":
        if not below:
            return None
        with contextlib.suppress(psutil.Error):
            chance.choice(below).kill()
    else:
        for one in [psutil.Process(process.pid), *below]:
            with contextlib.suppress(psutil.Error):
                one.kill()
    return way


def runs_end(study: Path) -> bool:
    """Whether no run of a study is at work, within the time that it may take to save."""
    end = time.monotonic() + ENDS_WITHIN_S
    while any(is_locked(lock) for lock in study.glob("*/*/run.lock")):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def outcome(study: Path) -> dict[str, object]:
    """All that must be the same: times and processes are not."""
    lines = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    began = [(line["run"], line["values"]) for line in lines if line["event"] == "began"]
    same = ("run", "number", "values", "seed", "state", "score", "low", "high", "curve", "steps")
    ended = {line["run"]: [line[name] for name in same] for line in lines if line["event"] == "ended"}
    result = json.loads((study / "result.json").read_text())
    weights = (study / result["winner"]["run"] / "package" / "model.safetensors").read_bytes()
    return {
        "began": sorted(began),
        "ended": dict(sorted(ended.items())),
        "twice": len(began) - len({name for name, _ in began}),
        "finalists": [[one["trial"], one["fresh_scores"], one["mean"]] for one in result["finalists"]],
        "winner": [result["winner"]["run"], hashlib.sha256(weights).hexdigest()],
        "test": result["scores"]["test"]["accuracy"]["value"],
    }


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(0.0, seconds))
    return None


def undisturbed(options: argparse.Namespace, folder: Path, until: float) -> bool:
    """Run the search that nobody kills, in as many sessions as the minutes need; whether it is done."""
    if (folder / "whole/result.json").exists():
        return True
    process = begin("whole", options, folder)
    code = wait(process, until - time.monotonic())
    if code is None:
        process.terminate()
        process.wait()
        return False
    if code != 0:
        raise SystemExit(f"the undisturbed search ended with {code}; see {folder / 'whole.log'}")
    return True


def disturbed(options: argparse.Namespace, folder: Path, until: float) -> bool:
    """Run the search and kill it; whether it is done."""
    record = folder / "kills.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    while not (folder / "killed/result.json").exists():
        if time.monotonic() > until:
            return False
        process = begin("killed", options, folder)
        chance = random.Random(f"{options.seed}:{len(done)}")
        if len(done) >= options.kills:
            code = wait(process, until - time.monotonic())
            if code is None:
                process.terminate()
                process.wait()
                return False
            if code != 0:
                raise SystemExit(f"the killed search ended with {code}; see {folder / 'killed.log'}")
            return True
        after = chance.uniform(*options.between)
        if wait(process, after) is not None:
            continue
        way = strike(process, WAYS[len(done) % len(WAYS)], chance, folder / "killed")
        code = wait(process, 1.0)
        if code is None:  # a run was killed, not the verb, which continues it; it is killed as well after a while
            wait(process, chance.uniform(0.0, options.between[1]))
            process.kill()
            process.wait()
        if way is not None:
            ends = runs_end(folder / "killed")
            ledger = folder / "killed/trials.jsonl"
            lines = ledger.read_text().count("\n") if ledger.exists() else 0
            done.append({"way": way, "after": round(after, 2), "lines": lines, "runs_end": ends})
            with record.open("a") as stream:
                stream.write(json.dumps(done[-1]) + "\n")
            print(f"kill {len(done)}: {way} after {after:.1f} s, {lines} lines in the ledger", flush=True)
            if not ends:
                raise SystemExit("a run went on after its search was killed")
    return True


def start_warm() -> None:
    """From now on processes begin as forks of one that has imported what they need."""
    sys.path.insert(0, str(ROOT))
    from tests import warm

    place = Path(tempfile.mkdtemp(prefix="warm-"))
    process = warm.start(place)
    warm.join()

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(end)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("study-kills"), help="where it works; continued if it is there"
    )
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--between", type=float, nargs=2, default=(2.0, 25.0), help="seconds until a kill, at least and at most"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--warm",
        action="store_true",
        help="fork processes from one that has imported torch, as the tests do: a fifth of the time",
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so many; the same command continues")
    parser.add_argument("--out", type=Path, help="write what was found here, as JSON")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    until = time.monotonic() + options.minutes * 60
    if not (folder / "recipe.py").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
    os.environ.update(surroundings(folder))
    if options.warm:
        start_warm()
    if not (undisturbed(options, folder, until) and disturbed(options, folder, until)):
        print("not done yet: the same command continues")
        return
    whole, killed = outcome(folder / "whole"), outcome(folder / "killed")
    kills = [json.loads(line) for line in (folder / "kills.jsonl").read_text().splitlines()]
    differing = [name for name in whole if whole[name] != killed[name]]
    states = [row[4] for row in whole["ended"].values()]  # type: ignore[attr-defined]
    found = {
        "ranks": options.ranks,
        "parallel": options.parallel,
        "warm": options.warm,
        "trials": options.trials,
        "kills": len(kills),
        "ways": {way: sum(kill["way"] == way for kill in kills) for way in WAYS},
        "states": {state: states.count(state) for state in sorted(set(states))},
        "runs": len(whole["ended"]),  # type: ignore[arg-type]
        "begun_twice": killed["twice"],
        "identical": not differing,
        "differing": differing,
        "winner": whole["winner"],
    }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    if differing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
