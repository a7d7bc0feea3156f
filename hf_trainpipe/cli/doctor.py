"""``hf-trainpipe doctor``: facts about this machine and this environment."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hf_trainpipe import __version__
from hf_trainpipe.utils.atomic import free_bytes

_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "evaluate",
    "spacy",
    "nltk",
    "neptune",
    "mlflow",
    "tensorboard",
    "trackio",
    "wandb",
    "comet-ml",
    "tokenizers",
    "huggingface_hub",
    "safetensors",
    "numpy",
    "scikit-learn",
    "seqeval",
)


def examine() -> dict[str, Any]:
    """Facts as JSON: versions, CPUs and threads, devices, free space in GiB, what is configured."""
    return {
        "hf_trainpipe": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "spacy_pipelines": _spacy_pipelines(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **_torch(),
        "free_gib": {
            str(folder): round(free_bytes(folder) / 2**30, 1) for folder in (Path.cwd(), Path(constants.HF_HUB_CACHE))
        },
        "hub_cache": constants.HF_HUB_CACHE,
        "hub_offline": constants.HF_HUB_OFFLINE,
        # Whether a secret is set, never the secret.
        "hub_token_in_environment": "HF_TOKEN" in os.environ,
        "neptune_token_in_environment": "NEPTUNE_API_TOKEN" in os.environ,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _spacy_pipelines() -> dict[str, str]:
    points = importlib.metadata.entry_points(group="spacy_models")
    return {point.name: point.dist.version if point.dist else "" for point in points}


def _torch() -> dict[str, Any]:
    threads = os.environ.get("OMP_NUM_THREADS")
    facts: dict[str, Any] = {"omp_num_threads": int(threads) if threads and threads.isdecimal() else None}
    try:
        import torch
    except ImportError as error:
        print(f"torch cannot be imported: {error}", file=sys.stderr)
        return facts | {"torch_threads": None, "devices": []}
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return facts | {"torch_threads": torch.get_num_threads(), "devices": [*devices, "cpu"]}
