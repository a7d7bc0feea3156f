"""Whether a pipeline ends with the same weights on every engine, and when it is killed in each stage and continued on another.

    scripts/pipeline_proof --folder /tmp/proof

The sample pipeline of scripts/orchestrators, which those for Airflow and Kubeflow run too. It runs whole with `pipeline run`, with the
commands of the emitted workflow of Actions (its `run:` blocks under bash, its `if:` by their expressions; checkout, Python and cache are
this machine's), and with the line of the emitted crontab (under sh, with cron's bare environment). Then once more, killed with SIGKILL in
each stage: every second time the engine alone, whose verb then is an orphan that the next engine meets, else all processes at once; the
next engine continues. `compare` ends with 11, so that `explain` is due; a wide margin then turns its answer, and `promote` is killed too. All
must end with the same weights, byte for byte; never may two trainers of one stage be alive. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from hf_trainpipe.pipelines.record import read_begun, read_record
from hf_trainpipe.utils.atomic import write_json

sys.path.insert(0, str(Path(__file__).resolve().parent / "orchestrators"))
import proof
import sample

ENGINES = ("run", "actions", "cron")
STAGES = ("audit", "train", "evaluate", "verify", "challenger", "compare", "explain", "promote")
NARROW, WIDE = '"0.001"', '"99"'
"""Margins of ``compare`` in points: the challenger is not shown to be no worse, and is shown to be."""
SHORT = """\
from hf_trainpipe.pipelines import Evaluate, Pipeline, Train, Verify


def pipeline() -> Pipeline:
    return Pipeline("reviews", stages=(Train("reviews.py"), Evaluate("train", split="test"), Verify("train")))
"""
NAME = "reviews"
ENDED = "ended before the kill"
BARE = {
    "PATH": "/usr/bin:/bin",
    "SHELL": "/bin/sh",
    "LOGNAME": os.environ.get("LOGNAME", "root"),
    "HOME": str(Path.home()),
    **{
        name: value for name, value in os.environ.items() if name == "PYTHONPATH"
    },  # the same code as the other engines'
}


def prepare(folder: Path, epochs: int, *, short: bool) -> None:
    if (folder / f"{NAME}.crontab").exists():
        return
    proof.made(folder, epochs=epochs)
    if short:
        (folder / "pipeline.py").write_text(SHORT)
    for engine in ("actions", "cron"):
        options = ["--folder", ".", "--python", sys.executable] if engine == "actions" else []
        command = [sys.executable, "-m", "hf_trainpipe", "pipeline", "emit", engine, "pipeline.py", *options]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def begin(engine: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start an engine over the whole pipeline; what it says goes to a file."""
    environment = {**os.environ, **proof.SAME}
    if engine == "run":
        command = [sys.executable, "-m", "hf_trainpipe", "pipeline", "run", "pipeline.py"]
    elif engine == "actions":
        command = [sys.executable, __file__, "--workflow", f"{NAME}.yml"]
    else:
        line = next(line for line in (folder / f"{NAME}.crontab").read_text().splitlines() if line.startswith("0 3"))
        command = ["/bin/sh", "-c", line.split(maxsplit=5)[5].replace("\\%", "%")]
        environment = {**BARE, **proof.SAME}
    with (folder / "engines.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def work_flow(file: Path) -> int:
    """What a runner does with the workflow's steps."""
    (job,) = yaml.safe_load(file.read_text())["jobs"].values()
    codes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for step in job["steps"]:
            if "run" not in step or step["name"] == "Install" or not _holds(step.get("if", "true"), codes):
                continue
            output, script = Path(temporary, "output"), Path(temporary, "step.sh")
            output.write_text("")
            script.write_text(step["run"])
            environment = {**os.environ, "RUNNER_TEMP": temporary, "GITHUB_OUTPUT": str(output)}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)], env=environment, check=False
            )
            if done.returncode:
                return done.returncode
            told = dict(line.split("=", 1) for line in output.read_text().splitlines())
            codes[step.get("id", "")] = told.get("code", "")
    return 0


def _holds(expression: str, codes: dict[str, str]) -> bool:
    known = re.sub(r"steps\.([\w-]+)\.outputs\.code", lambda found: repr(codes.get(found[1], "")), expression)
    return bool(eval(known.replace("&&", " and ").replace("||", " or ").replace("true", "True")))


def kill_in(
    stage: str, engine: subprocess.Popen[bytes], folder: Path, *, everything: bool, chance: random.Random
) -> bool:
    """Kill the engine while a stage is at work; False: the stage was too fast."""
    state = folder / "runs" / NAME / stage
    while "child" not in read_begun(state) or not psutil.pid_exists(int(str(read_begun(state)["child"]))):
        if engine.poll() is not None:
            return False
        time.sleep(0.02)
    if stage in ("train", "challenger"):  # somewhere behind the first checkpoint
        while not list((state / "checkpoints").glob("step-*")) and engine.poll() is None:
            time.sleep(0.05)
    time.sleep(chance.uniform(0.0, 1.0))
    if read_record(state) is not None or engine.poll() is not None:
        return False
    whole = psutil.Process(engine.pid)
    family = [whole, *whole.children(recursive=True)]
    for process in family:
        alone = process is whole or process.cmdline()[3:4] == ["pipeline"] or process.name() in ("bash", "sh", "flock")
        if (
            everything or alone
        ):  # the engine: its shells, `pipeline run` and `pipeline stage`; or the verb and what it began too
            with contextlib.suppress(psutil.Error):
                process.kill()
    engine.wait()
    return True


def result_of(folder: Path) -> dict[str, Any]:
    records = {name: read_record(folder / "runs" / NAME / name) for name in STAGES}
    return {
        "weights": sample.weights(folder),
        "attempts": {name: record.attempts for name, record in records.items() if record is not None},
        "codes": {name: record.exit_code for name, record in records.items() if record is not None},
        "seconds": round(sum(record.seconds for record in records.values() if record is not None), 1),
    }


def prove(folder: Path, *, until: float, seed: int, epochs: int, short: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for case in (ENGINES[0], "killed", *ENGINES[1:]):
        place = folder / case
        kept = place / "proof.json"
        if not kept.exists() and time.monotonic() < until:
            prepare(place, epochs, short=short)
            if case == "killed":
                _killed(place, kept, until=until, chance=random.Random(seed), stages=STAGES[1:4] if short else STAGES)
            else:
                code = begin(case, place).wait()
                write_json(kept, {"case": f"whole, {case}", "code": code, **result_of(place)})
        if kept.exists():
            rows.append(json.loads(kept.read_text()))
    return rows


def _killed(place: Path, kept: Path, *, until: float, chance: random.Random, stages: Sequence[str]) -> None:
    """Kill in each stage, and go on with the next engine; what was killed is kept after each."""
    log = place / "kills.json"
    done: dict[str, Any] = json.loads(log.read_text()) if log.exists() else {"kills": {}, "trainers": 0}
    with proof.counted(place) as seen:
        for number, stage in enumerate(stages):
            if stage in done["kills"]:
                continue
            if time.monotonic() > until:
                return
            engine, everything = ENGINES[number % len(ENGINES)], number % 2 == 1
            if stage == "promote":
                _turn(place, engine)
            killed = kill_in(stage, begin(engine, place), place, everything=everything, chance=chance)
            how = f"{engine}: {'everything' if everything else 'the engine alone'}" if killed else f"{engine}: {ENDED}"
            done["kills"][stage] = how
            done["trainers"] = max(done["trainers"], seen["most"])
            write_json(log, done)
        code = begin(ENGINES[len(stages) % len(ENGINES)], place).wait()
    done["trainers"] = max(done["trainers"], seen["most"])
    write_json(kept, {"case": "killed", "code": code, **done, **result_of(place)})


def _turn(place: Path, engine: str) -> None:
    """End what is due by the answer of ``compare``, and let it answer anew, so that ``promote`` is due."""
    file = place / "pipeline.py"
    if NARROW in (text := file.read_text()):
        if begin(engine, place).wait() or read_record(place / "runs" / NAME / "explain") is None:
            raise SystemExit(f"{engine} did not end explain: see {place / 'engines.log'}")
        file.write_text(text.replace(NARROW, WIDE))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pipeline-proof"))
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=200, help="of the sample; as the other proofs have it")
    parser.add_argument("--short", action="store_true", help="three stages of the sample: train, evaluate, verify")
    parser.add_argument("--workflow", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workflow is not None:
        return work_flow(options.workflow)
    until = time.monotonic() + 60 * options.minutes
    rows = prove(options.folder.resolve(), until=until, seed=options.seed, epochs=options.epochs, short=options.short)
    for row in rows:
        print(json.dumps(row))
    same = len({json.dumps(row["weights"]) for row in rows}) == 1 and not any(row["code"] for row in rows)
    alone = all(row.get("trainers", 1) == 1 for row in rows)
    whole = len(rows) == len(ENGINES) + 1
    kills = [how for row in rows for how in row.get("kills", {}).values()]
    killed = sum(ENDED not in how for how in kills)
    print(
        "identical" if same and alone else "DIFFERENT",
        f"{len(rows)} of {len(ENGINES) + 1} cases, killed in {killed} of {len(kills)} stages",
    )
    return 0 if same and alone and whole and killed == len(kills) else 1


if __name__ == "__main__":
    raise SystemExit(main())
