"""A workflow of GitHub Actions: one job, a step a stage; the state is carried from run to run by the cache, or lies on the runner's disk.

One job, since hosted runners have a disk each and the state is files; stages therefore run one after the other. The branch of a stage is
its output ``code``, on which later steps have their ``if``.
"""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.emit_shell import again
from hf_trainpipe.pipelines.emitting import command_of
from hf_trainpipe.pipelines.lowered import Step, lower
from hf_trainpipe.pipelines.pipeline import Pipeline

_TEXT = """\
# {made_by}
# Put it into .github/workflows. Paths are from the repository's top. The cache carries the state of the stages (at most 10 GB a repository)
# from run to run: what is done is not done again, and what was interrupted, or cancelled at the time limit, is continued by the next
# run. On a runner of your own with a disk that stays, leave the two cache steps out and set `clean` to false.
name: {name}
on:
  workflow_dispatch:
{schedule}concurrency:
  group: {name}
  cancel-in-progress: false
permissions:
  contents: read
jobs:
  {name}:
    runs-on: ubuntu-latest
    timeout-minutes: 350
    defaults:
      run:
        shell: bash
        working-directory: {folder}
    env:
      HF_TOKEN: ${{{{ secrets.HF_TOKEN }}}}
    steps:
      - uses: actions/checkout@v5
        with:
          clean: true
      - uses: actions/setup-python@v6
        with:
          python-version: "3.11"
      - name: Install
        run: {install}
      - name: Restore the state
        uses: actions/cache/restore@v4
        with:
          path: |2
{state}
          key: {cache}-${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}
          restore-keys: {cache}-
      - name: What the exit codes mean
        run: |
          cat > "$RUNNER_TEMP/stage" <<'END'
{script}
          END
{steps}
      - name: Keep the state
        if: always()
        uses: actions/cache/save@v4
        with:
          path: |2
{state}
          key: {cache}-${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}
"""


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One file, NAME.yml. The folder is from the top of the repository, the schedule in UTC.

    Raises:
        RecipeError: the state lies outside of the repository.
    """
    steps = lower(pipeline)
    if Path(pipeline.runs).is_absolute() or ".." in Path(pipeline.runs).parts:
        raise RecipeError(
            f"pipeline emit actions: expected the state within the repository, found runs={pipeline.runs!r}.",
            fix='Write runs="runs".',
        )
    state = f"{pipeline.runs}/{pipeline.name}"
    further = (path for stage in pipeline.stages for path in stage.writes(pipeline) if not path.startswith(f"{state}/"))
    kept = tuple(dict.fromkeys((state, *further)))
    script = again(
        pipeline,
        command_of(steps[0], settings)[:-1],
        done='echo "code=$code" >> "$GITHUB_OUTPUT"; exit 0',
    )
    text = _TEXT.format(
        made_by=made_by(pipeline, "actions"),
        name=_yaml(pipeline.name),
        folder=_yaml(settings.folder),
        install=_yaml(shlex.join([settings.python, "-m", "pip", "install", "hf-trainpipe"])),
        schedule="" if settings.schedule is None else f'  schedule:\n    - cron: "{settings.schedule}"\n',
        cache=pipeline.name,
        state="\n".join(f"            {(Path(settings.folder) / path).as_posix()}" for path in kept),
        script=textwrap.indent(script, " " * 10),
        steps="\n".join(_step(step) for step in steps),
    )
    return {f"{pipeline.name}.yml": text}


def _step(step: Step) -> str:
    name = _yaml(step.name)
    lines = [f"      - name: {name}", f"        id: {name}"]
    if step.needs:
        lines.append(f"        if: {' && '.join(_ended(need, step.runs_if[need]) for need in step.needs)}")
    return "\n".join([*lines, f'        run: bash "$RUNNER_TEMP/stage" {step.name}'])


def _yaml(text: str) -> str:
    """A text as YAML, in quotes where it needs them."""
    import yaml

    written: str = yaml.safe_dump(text, allow_unicode=True, width=1 << 20)
    return written.removesuffix("...\n").rstrip("\n")


def _ended(need: str, codes: tuple[int, ...]) -> str:
    told = " || ".join(f"steps.{need}.outputs.code == '{code}'" for code in codes)
    return told if len(codes) == 1 else f"({told})"
