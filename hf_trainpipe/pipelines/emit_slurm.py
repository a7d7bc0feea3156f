"""A script for Slurm: a job a stage, each after those that it needs; a job that was interrupted is queued again."""

from __future__ import annotations

import shlex

from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.emit_shell import again
from hf_trainpipe.pipelines.emitting import command_of
from hf_trainpipe.pipelines.lowered import Step, lower
from hf_trainpipe.pipelines.pipeline import Pipeline

_TEXT = """\
#!/usr/bin/env bash
# {made_by}
#
#   bash {name}.slurm.sh                     submits a job for each stage; each waits for those that it needs
#   STAGE_OPTIONS="--partition=cpu" TRAIN_OPTIONS="--gpus=1 --time=12:00:00" bash {name}.slurm.sh
#
# A job that is preempted, or near its time limit, saves and is queued again, and continues. Where a stage fails, those behind it are
# cancelled; submit again once the reason is gone: what is done is not done again. A stage that a branch leaves out ends at once. The
# folder has to be on a file system that all nodes share.
set -euo pipefail
self=$(realpath "$0")
cd {folder}

if [ $# -eq 0 ]; then
  mkdir -p {state}
  submit() {{
    sbatch --parsable --job-name="{name}-$1" --output={log}/"$1.slurm.log" --open-mode=append --requeue \\
      --signal=B:TERM@120 --kill-on-invalid-dep=yes "${{@:2}}" "$self" "$1"
  }}
{jobs}
  exit
fi

# In a job: the stage that it is for.
{script}
"""


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One file, NAME.slurm.sh."""
    steps = lower(pipeline)
    state = f"{pipeline.runs}/{pipeline.name}"
    queue = f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {pipeline.interruptions} ] && scontrol requeue "$SLURM_JOB_ID"; exit "$code"'
    script = again(pipeline, command_of(steps[0], settings)[:-1], done="exit 0", interrupted=queue)
    text = _TEXT.format(
        made_by=made_by(pipeline, "slurm"),
        name=pipeline.name,
        folder=shlex.quote(settings.folder),
        state=shlex.quote(state),
        log=shlex.quote(state.replace("%", "%%")),  # sbatch has patterns there
        jobs="\n".join(_job(step) for step in steps),
        script=script,
    )
    return {f"{pipeline.name}.slurm.sh": text}


def _job(step: Step) -> str:
    options = ["${TRAIN_OPTIONS:-}" if step.trains else "${STAGE_OPTIONS:-}"]
    if step.needs:
        options.insert(0, "--dependency=afterok:" + ":".join(f"${_variable(need)}" for need in step.needs))
    return f'  {_variable(step.name)}=$(submit {step.name} {" ".join(options)})\n  echo "{step.name}: job ${_variable(step.name)}"'


def _variable(name: str) -> str:
    return f"job_{name.replace('-', '_')}"
