"""The table of exit codes as a shell script: a stage, tried again as far as its budgets go."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED, PUSH_FAILED
from hf_trainpipe.pipelines.pipeline import Pipeline


def again(pipeline: Pipeline, command: Sequence[str], *, done: str, interrupted: str | None = None) -> str:
    """A script of bash that runs ``command`` with the stage's name, its first argument, and ends by the table.

    Args:
        done: What it does once the stage is done, with the branch in ``$code``.
        interrupted: What it does where the stage was interrupted; None: it continues at once, ``Pipeline.interruptions`` times.
    """
    branches = " | ".join(str(code) for code, row in EXIT_CODES.items() if row.branch)
    meant = ", ".join(f"{code} {row.name}" for code, row in EXIT_CODES.items() if row.branch)
    told = '[ -z "$ending" ] && [ "$interruptions" -lt {0} ] || exit {1}; interruptions=$((interruptions + 1))'
    once_more = told.format(pipeline.interruptions, INTERRUPTED)
    return f"""\
interruptions=0 pushes=0 ending=
while :; do
  {shlex.join(command)} "$1" &
  stage=$!
  trap 'ending=1; kill -TERM "$stage"' TERM INT  # the stage is asked to save and end
  wait "$stage" && code=0 || code=$?
  while kill -0 "$stage" 2>/dev/null; do wait "$stage" && code=0 || code=$?; done
  if [ "$code" -gt 128 ]; then code={INTERRUPTED}; fi  # a signal ended it
  case $code in
    {branches}) {done} ;;  # {meant}
    {INTERRUPTED}) {interrupted or once_more} ;;  # interrupted: the same command continues it
    {PUSH_FAILED}) [ -z "$ending" ] && [ "$pushes" -lt {pipeline.push_retries} ] || exit {PUSH_FAILED}; pushes=$((pushes + 1)); sleep $((15 * pushes)) ;;  # the push alone
    *) exit "$code" ;;
  esac
done"""
