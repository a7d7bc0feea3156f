"""A pipeline for Kubeflow Pipelines 2: a task a stage, all of one component that knows the table of exit codes."""

from __future__ import annotations

import json
from string import Template

from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.emitting import in_docstring, needs_of, words
from hf_trainpipe.pipelines.lowered import lower
from hf_trainpipe.pipelines.pipeline import Pipeline


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One Python file, NAME_kfp.py, that imports kfp alone; running it compiles the pipeline.

    KFP repeats a task whatever its exit code is, so the component itself starts the command again where the table says
    so. A branch is an output: the tasks behind it compare it with the codes after which they run, and leave out their
    command. That holds for any graph; ``dsl.If`` cannot join what two conditions lead to. The command stands in the
    component, not among its parameters, in which kfp.local replaces "python3" by its own interpreter.
    """
    steps = lower(pipeline)
    tasks = "\n".join(f"    run({json.dumps(step.name)}, {needs_of(step)})" for step in steps)
    text = _FILE.substitute(
        words(pipeline, steps, settings, indent="    "), made_by=in_docstring(made_by(pipeline, "kfp")), tasks=tasks
    )
    return {f"{pipeline.name.replace('-', '_')}_kfp.py": text}


_FILE = Template('''\
"""$made_by

Running this file compiles it to YAML beside it. Every task runs one command and does what its exit code says. What is
done is known by the files of the pipeline alone, on the volume: nothing is taken from the cache of KFP, and a run that
failed may be retried, or the pipeline started again, and goes on where it was.
"""

from kfp import compiler, dsl

IMAGE = $image  # with hf-trainpipe, and with kfp for its python3
VOLUME = $volume  # the claim that holds the folder of the pipeline, shared by all nodes; "": none (kfp.local)
FOLDER = $folder  # where it is mounted; $file lies in it


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stage(name: str, needs: list, runs_after: list) -> int:
    """Run a stage if each of its needs ended with a code after which it runs; return its exit code, -1 if it was left out."""
    import signal
    import subprocess
    import sys
    import time

    folder = $folder  # where $file lies, on the volume
    command = $command + [name]
    # What exit codes mean. The same command is started again after:
    interrupted = $interrupted  # it has saved and can go on; a process that a signal ended counts as this
    push_failed = $push_failed  # all else is done
    left = {interrupted: $interruptions, push_failed: $push_retries}  # how often: a budget for each
    # These are answers, which choose what comes next:
    branches = $branches
    # All others are failures that stay:
    failures = $failures

    if any(int(float(code)) not in map(int, codes) for code, codes in zip(needs, runs_after)):  # a list holds floats
        print(f"{name} is left out: what it needs ended with {needs}, and it runs after {runs_after}")
        return -1
    stopped = []
    while not stopped:
        process = subprocess.Popen(command, cwd=folder)

        def stop(number, frame, process=process):
            stopped.append(number)
            process.terminate()  # it saves, and ends with 75

        signal.signal(signal.SIGTERM, stop)  # the pod is about to go
        code = process.wait()
        code = interrupted if code < 0 else code
        print(f"{name} ended with {code}: {branches.get(code) or failures.get(code) or 'it can go on'}", flush=True)
        if code in branches:
            return code
        if not left.get(code):
            break
        left[code] -= 1
        if not stopped:
            time.sleep(60)
    sys.exit(code)


ended = {}


def run(name, needs):
    """A task that runs after others. `needs` has for each of them the exit codes after which it does."""
    task = stage(name=name, needs=[ended[need].output for need in needs], runs_after=list(needs.values()))
    task.set_display_name(name).set_caching_options(False)
    if VOLUME:
        from kfp import kubernetes

        kubernetes.mount_pvc(task, pvc_name=VOLUME, mount_path=FOLDER)
    ended[name] = task


@dsl.pipeline(name="$name")
def pipeline():
$tasks


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, __file__.removesuffix(".py") + ".yaml")
''')
