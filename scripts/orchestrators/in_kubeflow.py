"""What is done with the emitted files by kfp and the Kubeflow SDK themselves; on_kubeflow.py runs this in their environment.

    in_kubeflow.py compile FILE.py            # to YAML; what stands in it
    in_kubeflow.py run FILE.py OUTPUTS        # by kfp.local's SubprocessRunner
    in_kubeflow.py trainjob FILE.yaml         # against its schema; posted by the SDK to a stand-in for the Kubernetes API

The last line of what it prints is JSON.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

GROUP = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/default/"


def compile_file(file: Path) -> dict[str, Any]:
    """Run the file, as people do, and read the pipeline that it leaves."""
    runpy.run_path(str(file), run_name="__main__")
    spec, *platform = yaml.safe_load_all(file.with_suffix(".yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"]
    return {
        "pipeline": spec["pipelineInfo"]["name"],
        "sdk": spec["sdkVersion"],
        "tasks": {task["taskInfo"]["name"]: sorted(task.get("dependentTasks", [])) for task in tasks.values()},
        "cached": [name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache", False)],
        "mounts": len(platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]) if platform else 0,
    }


def run_file(file: Path, outputs: Path) -> dict[str, Any]:
    """Run the pipeline here, each task as a process."""
    from kfp import local

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(outputs))
    made = runpy.run_path(str(file))
    made["pipeline"]()
    run = max(outputs.iterdir())
    told = {
        name: json.loads((run / task.name / "executor_output.json").read_text()) for name, task in made["ended"].items()
    }
    return {"codes": {name: int(one["parameterValues"]["Output"]) for name, one in told.items()}}


class Api(BaseHTTPRequestHandler):
    """As much of the Kubernetes API as Trainer's objects need: creates what its schema allows, and hands it out."""

    objects: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    refused: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public":
            self._answer(200, {"kind": "ConfigMap", "apiVersion": "v1", "data": {"kubeflow_trainer_version": "v2.3.0"}})
        elif path == "/api/v1/namespaces/default/pods":
            self._answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif path in self.objects:
            self._answer(200, self.objects[path])
        else:
            self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if wrong := faults(body):
            self.refused.append(wrong)
            self._answer(
                422, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "message": wrong}
            )
            return
        made = {
            **body,
            "metadata": {**body["metadata"], "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        }
        self.objects[f"{self.path.partition('?')[0]}/{body['metadata']['name']}"] = made
        self._answer(201, made)

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def faults(body: dict[str, Any]) -> str:
    """What the schema of Trainer's API, as its package of models has it, does not allow; empty: nothing."""
    from kubeflow_trainer_api import models

    kinds = {"TrainingRuntime": models.TrainerV1alpha1TrainingRuntime, "TrainJob": models.TrainerV1alpha1TrainJob}
    if body.get("kind") not in kinds:
        return f"kind {body.get('kind')!r}"
    try:
        read = kinds[body["kind"]].from_dict(body)
    except ValueError as error:
        return str(error)
    return "; ".join(unknown(body, json.loads(read.to_json()), body["kind"]))


def unknown(given: Any, kept: Any, place: str) -> Iterator[str]:
    """Fields that are given, and that the models do not know."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name not in kept:
                yield f"{place}.{name} is unknown"
            else:
                yield from unknown(value, kept[name], f"{place}.{name}")
    elif isinstance(given, list) and isinstance(kept, list):
        for number, (one, two) in enumerate(zip(given, kept, strict=True)):
            yield from unknown(one, two, f"{place}[{number}]")
    elif given != kept:
        yield f"{place}: {given!r} is read as {kept!r}"


def trainjob(file: Path) -> dict[str, Any]:
    """Post the runtime by the Kubernetes client and the job by Trainer's SDK; hold what arrives against the file."""
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.trainer import CustomTrainerContainer, TrainerClient
    from kubeflow.trainer.options import Name, TrainerCommand
    from kubernetes import client

    runtime, job = yaml.safe_load_all(file.read_text())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    api = client.CustomObjectsApi(client.ApiClient(config))

    def post(body: dict[str, Any], plural: str) -> None:
        api.create_namespaced_custom_object("trainer.kubeflow.org", "v1alpha1", "default", plural, body)

    post(runtime, "trainingruntimes")
    post({**job, "metadata": {"name": "as-written"}}, "trainjobs")
    wrong = {**job, "spec": {**job["spec"], "trainer": {**job["spec"]["trainer"], "nodes": 2}}}
    with contextlib.suppress(client.ApiException):
        post(wrong, "trainjobs")
    trainer = job["spec"]["trainer"]
    sdk = TrainerClient(KubernetesBackendConfig(namespace="default", client_configuration=config))
    made = sdk.train(
        runtime=sdk.get_runtime(runtime["metadata"]["name"]),
        trainer=CustomTrainerContainer(image=trainer["image"], num_nodes=trainer["numNodes"]),
        options=[Name(name=job["metadata"]["name"]), TrainerCommand(command=trainer["command"])],
    )
    posted = Api.objects[f"{GROUP}trainjobs/{made}"]["spec"]
    seen = sdk.get_job(made)
    server.shutdown()
    return {
        "refused": Api.refused,  # the field that is not in the schema, alone
        "sdk_posts_the_same": posted["trainer"] == {k: v for k, v in trainer.items() if k != "numProcPerNode"}
        and posted["runtimeRef"]["name"] == job["spec"]["runtimeRef"]["name"],
        "sdk_reads": [seen.name, seen.runtime.name, seen.num_nodes],
        "command": posted["trainer"]["command"],
        "nodes": posted["trainer"]["numNodes"],
    }


if __name__ == "__main__":
    what, path = sys.argv[1], Path(sys.argv[2])
    told = (
        {"compile": compile_file, "trainjob": trainjob}[what](path)
        if what != "run"
        else run_file(path, Path(sys.argv[3]))
    )
    print(json.dumps(told))
