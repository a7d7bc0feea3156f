"""A crontab: ``pipeline run`` at its times, never twice at once."""

from __future__ import annotations

import shlex

from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.lowered import lower
from hf_trainpipe.pipelines.pipeline import Pipeline

USUAL = "0 3 * * *"


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One file, NAME.crontab."""
    lower(pipeline)  # it has a file that a command can name
    state = f"{pipeline.runs}/{pipeline.name}"
    run = shlex.join([settings.python, "-m", "hf_trainpipe", "pipeline", "run", pipeline.spelled])
    whole = (
        f"cd {shlex.quote(settings.folder)} && mkdir -p {shlex.quote(state)} && "
        f"flock -n {shlex.quote(state + '/cron.lock')} {run} >> {shlex.quote(state + '/cron.log')} 2>&1"
    )
    command = whole.replace("%", "\\%")  # which would end the line
    text = f"""\
# {made_by(pipeline, "cron")}
# Add it to yours:  (crontab -l; cat {pipeline.name}.crontab) | crontab -
# What is done is not done again, and what was killed is continued, at the next time or after a restart of the machine. While one
# run is at work (flock) the next time passes. It says what happened in {state}/cron.log, and how it ended by its exit code
# (hf-trainpipe --help). Cron's environment is nearly empty: what stages need of yours, write above as lines of your crontab, which only
# you can read: HF_HUB_OFFLINE=1. A token of the Hub is found where `hf auth login` left it.
SHELL=/bin/sh
{settings.schedule or USUAL} {command}
@reboot {command}
"""
    return {f"{pipeline.name}.crontab": text}
