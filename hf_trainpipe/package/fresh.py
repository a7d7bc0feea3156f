"""Run a package in a fresh, isolated process: another directory, no tokens, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import probe

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_KEPT_PREFIXES = ("OMP_", "MKL_", "KMP_")
_SHOWN_LINES = 12
_TIMEOUT_S = 600.0


def _environment(home: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {**kept, "HOME": home, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class FreshProcess:
    """A fresh process that waits for a request.

    Args:
        imports: Modules that it imports while it waits.
        python: An interpreter of another environment; None: this one.
    """

    def __init__(self, *, imports: Sequence[str] = (), python: Path | str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trainpipe-verify-")
        self._answer = Path(self._folder.name) / "answer.json"
        command = [str(python or sys.executable), "-I", "-B", str(Path(probe.__file__).resolve())]
        self._process = subprocess.Popen(
            [*command, str(self._answer), *imports],
            cwd=self._folder.name,
            env=_environment(self._folder.name),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request (:mod:`.probe`); the process ends with it.

        Raises:
            PackageError: it failed, refused, or did not answer in time.
        """
        try:
            _, stderr = self._process.communicate(json.dumps(request) + "\n", timeout=_TIMEOUT_S)
            answer = self._answer.read_text(encoding="utf-8") if self._answer.is_file() else ""
        except subprocess.TimeoutExpired:
            raise PackageError(
                f"The package did not answer within {_TIMEOUT_S:g} s in a fresh process.",
                fix="Record fewer predictions.",
            ) from None
        finally:
            self.close()
        if self._process.returncode != 0 or not answer:
            shown = "\n".join(stderr.strip().splitlines()[-_SHOWN_LINES:])
            raise PackageError(
                f"The package does not work in a fresh process (exit {self._process.returncode}):\n{shown}",
                fix="Install what its requirements.txt names; if it still fails, write the package again.",
                stderr=stderr,
            )
        found: dict[str, Any] = json.loads(answer)
        if "refused" in found:
            raise PackageError(found["refused"], fix=found["fix"])
        return found

    def close(self) -> None:
        """Kill the process and remove its folder."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()
