"""The environment of TensorFlow, which is not the one of torch: found, or how to make it; processes in it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.errors import MissingExtra, PackageError
from hf_trainpipe.utils.cache import cache_root

VARIABLE = "HF_TRAINPIPE_TENSORFLOW"
"""Names the environment, or its interpreter, where it is not at its usual place."""
REQUIREMENTS = ("tensorflow-cpu==2.21.0", "onnx==1.23.2", "tokenizers==0.23.3")
_SHOWN_LINES = 12
_BOOT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("saved_model", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["saved_model"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from saved_model.worker import main
main(sys.argv[2])
"""
_ASKED = """
import importlib.metadata, json
versions = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps({"tensorflow": versions.get("tensorflow-cpu", versions.get("tensorflow")), "onnx": versions.get("onnx")}))
"""


def usual_place() -> Path:
    """Where the environment lies unless :data:`VARIABLE` says otherwise."""
    return cache_root() / "tensorflow"


def find() -> Path:
    """The interpreter of the environment.

    Raises:
        MissingExtra: there is none, or it lacks something; with the commands that make it.
    """
    named = os.environ.get(VARIABLE)
    place = Path(named) if named else usual_place()
    python = place / "bin" / "python" if place.is_dir() else place
    try:
        done = subprocess.run([str(python), "-I", "-c", _ASKED], capture_output=True, text=True, check=True, timeout=60)
        missing = [name for name, version in json.loads(done.stdout).items() if version is None]
    except (OSError, subprocess.SubprocessError, ValueError):
        missing = ["an interpreter"]
    if not missing:
        return python
    raise MissingExtra(
        f"A SavedModel is written by TensorFlow in an environment of its own, expected at {place}"
        f"{f' ({VARIABLE})' if named else ''}; there it lacks {' and '.join(missing)}.",
        fix=f"python -m venv {usual_place()}\n"
        f"{usual_place()}/bin/python -m pip install {' '.join(REQUIREMENTS)}\n"
        f"That takes 1.6 GB. {VARIABLE} names another environment, or its python.",
    )


class TensorFlowProcess:
    """A process in that environment that answers lines of JSON (:mod:`.worker`); a context."""

    def __init__(self, python: Path, mode: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  __exit__ closes it
        self._process = subprocess.Popen(
            [str(python), "-I", "-B", "-c", _BOOT, str(Path(__file__).parent), mode],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> TensorFlowProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            PackageError: the process ended; with what it said last.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self._process.wait()
        self._said.seek(0)
        shown = "\n".join(self._said.read().strip().splitlines()[-_SHOWN_LINES:])
        raise PackageError(
            f"TensorFlow ended (exit {self._process.returncode}):\n{shown}",
            fix="The package is unchanged. Serve it with torch or ONNX Runtime.",
        )


class Session:
    """What was written, loaded by a fresh process; asked as a session of ONNX Runtime is."""

    def __init__(self, process: TensorFlowProcess, written: Mapping[str, str]) -> None:
        self._process = process
        self._folder = tempfile.TemporaryDirectory(prefix="trainpipe-tensorflow-")
        process.ask(written)

    def run(self, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        """``[logits]`` of a padded batch."""
        batch, logits = (str(Path(self._folder.name) / name) for name in ("batch.npz", "logits.npy"))
        np.savez(batch, **feed)
        self._process.ask({"batch": batch, "logits": logits})
        return [np.load(logits)]
