"""A pipeline as a TrainJob of Kubeflow Trainer 2, with the runtime that it refers to: jobs in a chain, one a stage."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hf_trainpipe.errors import EXIT_CODES, RecipeError
from hf_trainpipe.pipelines.emit import Settings, made_by
from hf_trainpipe.pipelines.emitting import IMAGE, VOLUME, command_of
from hf_trainpipe.pipelines.lowered import DONE, Step, lower
from hf_trainpipe.pipelines.pipeline import Pipeline

API = "trainer.kubeflow.org"
RETRIED = tuple(code for code, row in EXIT_CODES.items() if row.retried != "never")
"""The exit codes after which the same command is started again."""
SIGNALS = (134, 135, 136, 137, 139, 143)
"""Exit codes of a container whose process died of SIGABRT, SIGBUS, SIGFPE, SIGKILL (out of memory), SIGSEGV or SIGTERM."""
LONGEST = 63
"""Letters of the name of a job (a label of DNS): JobSet refuses longer ones."""
GRACE_SECONDS = 300
"""Between SIGTERM and SIGKILL: time to save."""


def write(pipeline: Pipeline, settings: Settings) -> dict[str, str]:
    """One YAML file, NAME_trainjob.yaml, for ``kubectl apply``: a TrainingRuntime, and a TrainJob of it.

    A JobSet starts a job when the one before it is complete, so the stages run in their order. The first that trains is the
    job that Trainer calls ``node``: it has all nodes. A job has no branches, so a stage that decides what
    comes next is left out, with all that is behind it.

    Raises:
        RecipeError: no stage that is left trains, or a name is too long.
    """
    import yaml

    steps = lower(pipeline)
    kept, left_out = _without_branches(steps)
    trains = next((step for step in kept if step.trains), None)
    if trains is None:
        raise RecipeError(
            f"{pipeline.name}: a TrainJob trains, and of the stages that it can run ({_listed(kept)}) none does.",
            fix="Emit the pipeline for another engine: airflow, kfp, cron, slurm or actions.",
        )
    jobs: list[dict[str, Any]] = []
    for step in kept:
        jobs.append(_job(step, pipeline, settings, is_node=step is trains, before=jobs[-1]["name"] if jobs else None))
    runtime = {
        "apiVersion": f"{API}/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": {"name": pipeline.name, "labels": {f"{API}/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": settings.nodes or 1, "torch": {}},
            "template": {"spec": {"replicatedJobs": jobs}},
        },
    }
    resources = {"resourcesPerNode": {"limits": {"nvidia.com/gpu": str(settings.gpus)}}} if settings.gpus else {}
    job = {
        "apiVersion": f"{API}/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": pipeline.name},
        "spec": {
            "runtimeRef": {"apiGroup": API, "kind": "TrainingRuntime", "name": pipeline.name},
            "trainer": {
                "image": settings.image or IMAGE,
                "command": _command_of(trains, settings),
                "numNodes": settings.nodes or 1,
                "numProcPerNode": settings.gpus or 1,
                **resources,
            },
        },
    }
    documents = [yaml.safe_dump(one, sort_keys=False, default_flow_style=None, width=120) for one in (runtime, job)]
    text = _head(pipeline, left_out) + "---\n".join(documents)
    return {f"{pipeline.name.replace('-', '_')}_trainjob.yaml": text}


def _without_branches(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """The steps that a chain of jobs can run, and the others: those that decide what comes next, and all behind them."""
    deciding = {need for step in steps for need, codes in step.runs_if.items() if tuple(codes) != DONE}
    kept: list[Step] = []
    gone: set[str] = set()
    for step in steps:
        if step.name in deciding or gone & set(step.needs):
            gone.add(step.name)
        else:
            kept.append(step)
    return kept, [step for step in steps if step.name in gone]


def _job(step: Step, pipeline: Pipeline, settings: Settings, *, is_node: bool, before: str | None) -> dict[str, Any]:
    """A job of the JobSet. Trainer asks that the one that trains, and its container, be called ``node``."""
    depends = {"dependsOn": [{"name": before, "status": "Complete"}]} if before else {}
    name = "node" if is_node else "stage-node" if step.name == "node" else step.name
    if (length := len(f"{pipeline.name}-{name}-0")) > LONGEST:
        raise RecipeError(
            f"{pipeline.name}: Kubernetes names jobs by pipeline and stage, in at most {LONGEST} letters; of {step.name} it would need {length}.",
            fix="Give the stage, or the pipeline, a shorter name.",
        )
    container: dict[str, Any] = {
        "name": "node" if is_node else "stage",
        "image": settings.image or IMAGE,
        "command": _command_of(step, settings),
        "workingDir": settings.folder,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
    }
    volumes: dict[str, tuple[str, dict[str, Any]]] = {}
    if claim := VOLUME if settings.volume is None else settings.volume:
        volumes["work"] = settings.folder, {"persistentVolumeClaim": {"claimName": claim}}
    if is_node and (settings.gpus or 0) > 1:  # ranks of one machine exchange through it
        volumes["shm"] = "/dev/shm", {"emptyDir": {"medium": "Memory"}}
    if volumes:
        container["volumeMounts"] = [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()]
        pod["volumes"] = [{"name": name, **what} for name, (_, what) in volumes.items()]
    label = {"metadata": {"labels": {f"{API}/trainjob-ancestor-step": "trainer"}}} if is_node else {}
    spec = {
        "backoffLimit": pipeline.interruptions
        * ((settings.nodes or 1) if is_node else 1),  # each node of an interrupted job counts
        "podFailurePolicy": _policy(container["name"]),
        "template": {"spec": pod},
    }
    return {"name": name, **depends, "template": {**label, "spec": spec}}


def _command_of(step: Step, settings: Settings) -> list[str]:
    """A step's command, in which Kubernetes would take ``$(NAME)`` for a variable."""
    return [word.replace("$", "$$") for word in command_of(step, settings)]


def _policy(container: str) -> Mapping[str, Any]:
    fails = {"containerName": container, "operator": "NotIn", "values": sorted({*RETRIED, *SIGNALS})}
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": fails},
        ]
    }


def _head(pipeline: Pipeline, left_out: Sequence[Step]) -> str:
    fails = "; ".join(f"{code} {row.meaning}" for code, row in EXIT_CODES.items() if code and code not in RETRIED)
    again = "; ".join(f"{code} {EXIT_CODES[code].meaning}" for code in RETRIED)
    told = [
        made_by(pipeline, "trainjob"),
        "",
        "A TrainJob of Kubeflow Trainer 2, with its runtime. Every job runs one command. What is done is known by the files of the pipeline alone, on the volume: delete the "
        "TrainJob and apply it again, and it goes on where it was.",
        "",
        f"A job is started again, at most {pipeline.interruptions} times, after: {again}; the end of a process by a signal. "
        "A pod that is evicted is started again without being counted.",
        f"A job fails at once after: {fails}.",
        "There is no ttlSecondsAfterFinished: Trainer would begin a finished JobSet once more (kubeflow/trainer#2981).",
    ]
    if left_out:
        told.append(
            f"Left out, since what {left_out[0].name} answers decides, and jobs have no branches: {_listed(left_out)}."
        )
    lines = [line for paragraph in told for line in textwrap.wrap(paragraph, 110) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _listed(steps: Sequence[Step]) -> str:
    return ", ".join(step.name for step in steps) or "none"
