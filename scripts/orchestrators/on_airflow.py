"""The emitted DAG under Airflow itself; scripts/airflow makes the environment and calls this.

    on_airflow.py FOLDER here         # the reference: pipeline run, here
    on_airflow.py FOLDER test         # dag.test(), with the trainer interrupted (75) in the middle
    on_airflow.py FOLDER scheduler    # a real scheduler: the trainer is killed -9, then Airflow's task runner of it

Each part ends with one line of JSON, which is kept in FOLDER/results.jsonl, and fails if the weights are not the reference's, or two
trainers of one stage were alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proof
import psutil
import sample

AIRFLOW = proof.ROOT / ".environments" / "airflow" / "bin"
PAUSE = ("timedelta(minutes=1)", "timedelta(seconds=5)")
"""What is shortened in the emitted file, so that a proof takes minutes."""
RUN_DAG = "import sys, runpy; run = runpy.run_path(sys.argv[1])['dag'].test(); sys.exit(run.state != 'success')"


def home(folder: Path) -> Path:
    """Airflow's home; each part has its own."""
    return folder / f"airflow-{sys.argv[2]}"


def settings(folder: Path) -> dict[str, str]:
    """Airflow's, for a home in the folder."""
    return {
        **proof.ENVIRONMENT,
        "PATH": f"{AIRFLOW}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "AIRFLOW_HOME": str(home(folder)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home(folder) / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__API__PORT": "18080",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:18080/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of this proof alone, " * 4,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    }


def dag_of(folder: Path, place: Path) -> Path:
    """The emitted DAG of the pipeline in ``place``, with short pauses, in Airflow's folder of DAGs."""
    path = proof.emitted(place, "airflow", home(folder) / "dags")
    path.write_text(path.read_text().replace(*PAUSE))
    return path


def states(folder: Path) -> dict[str, list[Any]]:
    """State and number of tries of each task, of the last run."""
    with contextlib.closing(sqlite3.connect(home(folder) / "airflow.db", timeout=30)) as database:
        found = database.execute(
            "select task_id, state, try_number from task_instance where run_id = (select run_id from dag_run order by id desc)"
        )
        return {task: [state, tries] for task, state, tries in found}


def events(folder: Path) -> int:
    """How often a task was rescheduled."""
    return int(query(folder, "select count(*) from task_reschedule"))


@contextlib.contextmanager
def kept(folder: Path, place: Path) -> Iterator[dict[str, Any]]:
    """What was seen of a part, also before the proof was ended and begun again."""
    file = folder / f"{sys.argv[2]}.json"
    nothing = {"seconds": 0, "most_trainers": 0, "most_commands": 0}
    facts: dict[str, Any] = json.loads(file.read_text()) if file.exists() else nothing
    began = time.monotonic()
    with proof.counted(place) as seen:
        try:
            yield facts
        finally:
            facts["seconds"] += round(time.monotonic() - began)
            for name, told in (("most_trainers", "most"), ("most_commands", "most_commands")):
                facts[name] = max(facts[name], seen[told])
            file.write_text(json.dumps(facts))


def test(folder: Path) -> None:
    """dag.test(), with the command of the training asked to stop in the middle."""
    migrate(folder)
    place = proof.made(folder / "test", epochs=proof.EPOCHS, pipeline=sample.SHORT)
    dag = dag_of(folder, place)

    def stop(facts: dict[str, Any]) -> None:
        facts["interrupted_at"] = proof.interrupt(place)

    with kept(folder, place) as facts:
        if "interrupted_at" not in facts:
            threading.Thread(target=stop, args=[facts], daemon=True).start()
        facts["code"] = subprocess.run([AIRFLOW / "python", "-c", RUN_DAG, str(dag)], env=settings(folder)).returncode
    tell_of(folder, place, "dag.test()", facts)


def tell_of(folder: Path, place: Path, part: str, facts: dict[str, Any]) -> None:
    """What became of the tasks, and of the weights."""
    attempts = len(list((place / "runs/reviews/train/attempts").glob("*.json")))
    told = {"attempts": attempts, "reschedules": events(folder), "tasks": states(folder)}
    proof.check(folder, sample.weights(folder / "here"), sample.weights(place), part=part, **facts, **told)


@contextlib.contextmanager
def services(folder: Path) -> Iterator[None]:
    """api-server, scheduler and dag-processor, each with its log in the folder."""
    started = []
    try:
        for name in ("api-server", "scheduler", "dag-processor"):
            with (folder / f"{name}.log").open("ab") as log:
                command = [AIRFLOW / "airflow", name]
                started.append(
                    subprocess.Popen(command, env=settings(folder), stdout=log, stderr=log, start_new_session=True)
                )
        yield
    finally:
        family = [child for process in started for child in below(process.pid)]
        for process in reversed(started):  # the API last: the others tell it how they end
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()


def below(pid: int) -> list[psutil.Process]:
    """A service and its processes, without the commands of tasks, which have a session of their own."""
    with contextlib.suppress(psutil.Error):
        service = psutil.Process(pid)
        return [service, *(one for one in service.children(recursive=True) if "hf_trainpipe" not in one.cmdline())]
    return []


def airflow(folder: Path, *words: str) -> str:
    """Run Airflow's command line."""
    done = subprocess.run([AIRFLOW / "airflow", *words], env=settings(folder), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def runner_of(place: Path) -> psutil.Process | None:
    """Airflow's process that began the command of the training."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-2:] == ["pipeline.py", "train"] and Path(process.cwd()) == place:
                return process.parent()
    return None


def query(folder: Path, what: str) -> Any:
    """One value of Airflow's database; None where there is none."""
    with contextlib.closing(sqlite3.connect(home(folder) / "airflow.db", timeout=30)) as database:
        found = database.execute(what).fetchone()
        return found[0] if found else None


def scheduler(folder: Path) -> None:
    """A run under the real scheduler. The trainer is killed -9, later Airflow's own process of that task.

    A proof that was ended begins no second run: Airflow goes on with the one in its database.
    """
    migrate(folder)
    place = proof.made(folder / "scheduler", epochs=proof.EPOCHS, pipeline=sample.SHORT)
    dag_of(folder, place)
    with kept(folder, place) as facts, services(folder):
        watch_run(folder, place, facts)
    tell_of(folder, place, "scheduler", facts)


def watch_run(folder: Path, place: Path, facts: dict[str, Any]) -> None:
    """Start a run unless there is one, kill what is to be killed, and wait for its end."""
    there = "select 1 from dag_run where run_id = 'proof'"
    if query(folder, there) is None:
        proof.wait(
            lambda: query(folder, "select 1 from serialized_dag where dag_id = 'reviews'"),
            seconds=180,
            what="the DAG is read",
        )
        proof.wait(
            lambda: airflow(folder, "dags", "trigger", "reviews", "--run-id", "proof") or query(folder, there),
            seconds=120,
            what="a run",
        )
    if "trainer_killed_at" not in facts:
        proof.wait(lambda: proof.steps_done(place) > proof.MIDDLE / 2, seconds=300, what="the first steps")
        facts["trainer_killed_at"] = proof.steps_done(place)
        for process in proof.trainers(place):
            process.kill()
    if "runner_killed_at" not in facts:
        proof.wait(lambda: proof.steps_done(place) > proof.MIDDLE, seconds=300, what="the middle of the training")
        runner = runner_of(place)
        assert runner is not None
        facts["runner"] = " ".join(runner.cmdline())[:60]
        facts["tries_at_kill"] = states(folder)["train"][1]
        facts["runner_killed_at"] = proof.steps_done(place)
        runner.kill()
    proof.wait(lambda: states(folder)["train"][1] > facts["tries_at_kill"], seconds=180, what="the next try")
    ended = ("success", "failed", "upstream_failed", "skipped")
    proof.wait(
        lambda: all(state in ended for state, _ in states(folder).values()), seconds=600, what="the end of the run"
    )


def migrate(folder: Path) -> None:
    """Make Airflow's database, or leave it as it is."""
    subprocess.run([AIRFLOW / "airflow", "db", "migrate"], env=settings(folder), check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    proof.carry_out({"test": test, "scheduler": scheduler})
