"""A pipeline as an Airflow 3 DAG: a task a stage, with one small operator that knows the table of exit codes."""

from __future__ import annotations

import json
from string import Template

from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.emitting import in_docstring, needs_of, words
from hf_trainpipe.pipelines.lowered import lower
from hf_trainpipe.pipelines.pipeline import Pipeline


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One Python file, NAME_airflow.py, that imports Airflow's SDK alone; it goes into the folder of DAGs.

    What the codes mean becomes Airflow's own words: a failure is an AirflowFailException, 75 a reschedule, which
    ``retries`` does not count, 5 a retry, and a branch skips the tasks that do not run after it. Tasks write to a file and
    have a session of their own: Airflow ends a task runner by its process group, and waits for what holds its pipes.
    """
    steps = lower(pipeline)
    tasks = "\n".join(f"    Stage(task_id={json.dumps(step.name)}, needs={needs_of(step)})" for step in steps)
    text = _FILE.substitute(
        words(pipeline, steps, settings),
        made_by=in_docstring(made_by(pipeline, "airflow")),
        tasks=tasks,
        schedule=repr(settings.schedule),
    )
    return {f"{pipeline.name.replace('-', '_')}_airflow.py": text}


_FILE = Template('''\
"""$made_by

An Airflow 3 DAG. Every task runs one command and does what its exit code says. What is done is known by the files of the pipeline
alone: a task may be cleared, run again, or run by hand, and goes on where it was.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, BaseOperator, SkipMixin
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

FOLDER = $folder  # where $file lies: the same files on every worker
# And the name of a stage. This Python has hf-trainpipe, and need not be Airflow's.
COMMAND = $command

# What exit codes mean. The same command is started again after:
INTERRUPTED = $interrupted  # it has saved and can go on; a process that a signal ended counts as this
PUSH_FAILED = $push_failed  # all else is done
# These are answers, which choose what comes next:
BRANCHES = $branches
# All others are failures that stay:
FAILURES = $failures

INTERRUPTIONS = $interruptions  # how often a stage may be interrupted: a budget of its own
RETRIES = $push_retries  # of a push that failed; how often Airflow may lose the process or the worker of a task
PAUSE = timedelta(minutes=1)


class Stage(BaseOperator, SkipMixin):
    """A stage. `needs` has for each stage before it the exit codes after which it runs; after others it is skipped."""

    inherits_from_skipmixin = True
    process: subprocess.Popen | None = None

    def __init__(self, *, needs: dict[str, list[int]], **kwargs) -> None:
        super().__init__(**kwargs)
        self.needs = needs

    def execute(self, context) -> None:
        code = self.run_command()
        if code < 0 or code == INTERRUPTED:
            interruptions = context.get("task_reschedule_count", 0) + 1
            if interruptions > INTERRUPTIONS:
                raise AirflowFailException(f"{self.task_id} was interrupted {interruptions} times; what it saved is kept")
            raise AirflowRescheduleException(datetime.now(timezone.utc) + PAUSE)
        if code == PUSH_FAILED:
            raise AirflowException(f"{self.task_id} ended with {code}: the push is tried again")
        if code not in BRANCHES:
            raise AirflowFailException(f"{self.task_id} ended with {code}: {FAILURES.get(code, 'unknown')}; see above")
        self.log.info("%s ended with %s: %s", self.task_id, code, BRANCHES[code])
        self.skip(context["ti"], [task for task in self.downstream_list if code not in task.needs[self.task_id]])

    def run_command(self) -> int:
        """Run it, with what it says in the log, and return its exit code.

        It writes to a file and has a session of its own: if this process is killed the command goes on, and the next try
        waits until it has ended.
        """
        with (
            tempfile.NamedTemporaryFile(prefix=f"{self.task_id}-", suffix=".log") as output,
            open(output.name, encoding="utf-8", errors="replace") as said,  # the last letter may be half written
        ):
            self.process = subprocess.Popen(
                [*COMMAND, self.task_id], cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            ended = None
            while ended is None:
                time.sleep(1)
                ended = self.process.poll()
                for line in said.read().splitlines():
                    self.log.info(line)
        return ended

    def on_kill(self) -> None:
        if self.process is not None:
            self.process.terminate()  # it saves, and ends with INTERRUPTED


with DAG(dag_id="$name", schedule=$schedule, catchup=False, max_active_runs=1,
         default_args={"retries": RETRIES, "retry_delay": PAUSE}) as dag:  # fmt: skip
$tasks
    for stage in dag.tasks:
        stage.set_upstream([dag.get_task(need) for need in stage.needs])
''')
