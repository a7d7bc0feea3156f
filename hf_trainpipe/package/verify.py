"""Verify a package: file hashes match, and a fresh process reproduces the recorded logits."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout
from hf_trainpipe.package.card_tables import table
from hf_trainpipe.package.fresh import FreshProcess
from hf_trainpipe.package.own_code import CONSENT, changed_code, runtime_folder
from hf_trainpipe.runtime import recorded as records
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.handler.user_code import has_consent
from hf_trainpipe.runtime.safety.files import read_limited
from hf_trainpipe.utils import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOLERANCE = 1e-5
"""The largest difference of a logit of the torch model."""
_LOOSEST = 10.0
"""The largest tolerance that a gate may allow."""


def record(rows: Sequence[Any], inputs: Sequence[Any], path: Path) -> Path:
    """Write ``{"input", "output"}`` lines for :func:`verify`. They contain texts: keep them in the run.

    Args:
        rows: ``Predictor.record(inputs)``.
        inputs: Raw inputs, in the handler's forms (text, ``{"text", "text_pair"}``, ``{"words"}``).
        path: Usually ``recorded.jsonl`` in the run's directory.
    """
    lines = ({"input": given, "output": row} for given, row in zip(inputs, rows, strict=True))
    atomic.write_bytes(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return path


def verify(
    package: Path | str,
    *,
    recorded: Path | str | None = None,
    python: Path | str | None = None,
    onnx_python: Path | str | None = None,
    allow_code: bool = False,
    needs_records: bool = True,
    fresh: FreshProcess | None = None,
) -> dict[str, Any]:
    """Check the files of ``package`` (or of a run's), and load it in a fresh, isolated process.

    That process is isolated (``python -I``), starts in another directory, sees no PYTHONPATH, no tokens and
    no network. Its logits must equal the recorded ones. Each ONNX model in the package gets a process of its own, and the
    tolerance that its gate set.

    Nothing of the package's own code runs without consent: the installed runtime answers from its weights. With consent its
    own ``handler.py`` answers, as it will be served.

    Args:
        recorded: Lines of :func:`record`; None: those of the run that contains the package.
        python: An interpreter of another environment; None: this one.
        onnx_python: An interpreter for the ONNX models; None: ``python``.
        allow_code: Whether code in the package may run: its handler and runtime, and the recipe's.
        needs_records: Whether a package without recorded predictions, which then only has to load and to answer a made-up
            input, is an error. It never counts as passed.
        fresh: A process started earlier; None: start one.

    Returns:
        ``{"passed", "loaded", "n", "max_abs_diff", "tolerance", "python", "runtime", "not_run", "time"}``, with ``backends``
        (the same figures of each ONNX model) where there are some. ``runtime`` is the one that was used, ``package`` or
        ``installed``; ``not_run`` lists code in the package that differs from this version's and did not run. The result is
        stored in trainpipe.json under ``verified``, and shown in the card.

    Raises:
        PackageError: exit code 6, with the figures, if anything differs; 2 without consent to the recipe's code, and where
            nothing was compared.
    """
    path = layout.find_package(package).resolve()
    manifest = layout.read_manifest(path)
    # As it was written: without fields that the package's own, older runtime refuses.
    as_written = json.loads(read_limited(path / layout.MANIFEST))
    recorded = find_recorded(path, recorded)
    lines = [] if recorded is None else read_recorded(recorded)
    allow_code = has_consent(allow_code)
    result: dict[str, Any] = {
        "passed": False,
        "loaded": False,
        "n": 0,
        "max_abs_diff": None,
        "tolerance": TOLERANCE,
        "python": None,
        "runtime": "package" if allow_code else "installed",
        "not_run": [],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        layout.refuse_changed(path, manifest)
        if not allow_code:
            result["not_run"] = changed_code(path, manifest)
            carried = [manifest["code"]["file"]] if manifest["code"] is not None else manifest["model_code"]
            if carried:
                whose = "its recipe" if manifest["code"] is not None else "the model"
                raise PackageError(
                    f"{path} carries code of {whose} ({', '.join(carried)}), without which it cannot answer; it was not run.",
                    fix=CONSENT,
                    exit_code=2,
                )
        request = {
            "package": str(path),
            "recorded": lines,
            "runtime": None if allow_code else str(runtime_folder()),
        }
        backends: dict[str, dict[str, Any]] = manifest["backends"]
        if backends:
            result["backends"] = {}
            request["backend"] = "torch"
        answer = (fresh or FreshProcess(python=python)).ask(request)
        result.update({name: answer[name] for name in ("n", "max_abs_diff", "python")})
        _judge(path, answer, recorded, tolerance=TOLERANCE)
        for name, facts in backends.items():
            answer = FreshProcess(python=onnx_python or python).ask({**request, "backend": name})
            figures = {key: answer[key] for key in ("n", "max_abs_diff", "python")}
            allowed = tolerance_of(path, name, facts)
            result["backends"][name] = {"passed": False, **figures, "tolerance": allowed}
            _judge(path, answer, recorded, tolerance=allowed, backend=name)
            result["backends"][name]["passed"] = recorded is not None
        result["loaded"] = True
        if recorded is None and needs_records:
            raise PackageError(
                f"{path} loads and answers, but nothing was compared: there are no recorded predictions beside it.",
                fix="Name them: --recorded RUN/recorded.jsonl (of the run that the package was trained in).",
                exit_code=2,
            )
        result["passed"] = recorded is not None
        _tell(path, manifest, result)
    finally:
        if _is_ours(path / layout.MANIFEST):
            content = {**as_written, "files": manifest["files"], "verified": result}
            layout.write_json(path / layout.MANIFEST, content)
    return result


def verify_clean(
    package: Path | str,
    *,
    recorded: Path | str | None = None,
    folder: Path | str | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """As :func:`verify`, in new virtual environments with only the package's requirements.txt.

    A package with ONNX models gets a second one for them, of ``onnx/requirements.txt``: without torch.

    Args:
        folder: Keeps the environments for the next time; None: a temporary folder.
        allow_code: As of :func:`verify`. Without it only pins of what every package needs are installed, since installing a
            requirement runs code of whoever is named there.

    Raises:
        PackageError: an environment cannot be made, is not clean, or an answer differs.
    """
    from hf_trainpipe.package.clean import create_environment, refuse_unknown_requirements

    path = layout.find_package(package).resolve()
    layout.refuse_changed(path, layout.read_manifest(path))
    if not has_consent(allow_code):
        for name in ("requirements.txt", "onnx/requirements.txt"):
            refuse_unknown_requirements(path / name)
    with tempfile.TemporaryDirectory(prefix="trainpipe-clean-") as temporary:
        root = Path(folder or temporary).resolve()
        python = create_environment(root / "torch", path / "requirements.txt")
        light = path / "onnx" / "requirements.txt"
        onnx_python = create_environment(root / "onnx", light) if light.is_file() else None
        return verify(path, recorded=recorded, python=python, onnx_python=onnx_python, allow_code=allow_code)


def read_recorded(path: Path) -> list[dict[str, Any]]:
    """The ``{"input", "output"}`` lines of :func:`record`.

    Raises:
        PackageError: a line is something else, with its number, or there is none; exit code 2.
    """
    try:
        return records.read_recorded(path, fix="Name a run's recorded.jsonl: --recorded RUN/recorded.jsonl")
    except SchemaError as error:
        raise PackageError(error.message, fix=error.fix, exit_code=2) from error


def tolerance_of(path: Path, backend: str, facts: Mapping[str, Any]) -> float:
    """The tolerance of a backend's gate, checked, since trainpipe.json may be forged."""
    value = facts.get("tolerance")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LOOSEST:
        return float(value)
    raise PackageError(
        f"{path / layout.MANIFEST}: backends.{backend}.tolerance: expected a number from 0 to {_LOOSEST:g}, found {value!r}.",
        fix="Write the models again: hf-trainpipe package PACKAGE --onnx",
    )


def _is_ours(file: Path) -> bool:
    """Whether a file may be replaced: not in a folder that is read-only, and not in the Hub's cache."""
    return os.access(file.parent, os.W_OK) and not file.is_symlink()


def _tell(path: Path, manifest: dict[str, Any], result: dict[str, Any]) -> None:
    """Write the result to the card, and the card's new hash to the manifest."""
    readme = path / "README.md"
    if not result["n"] or not readme.is_file() or not _is_ours(readme):
        return
    who = (
        "with the runtime of the project, not the one in this folder,"
        if result["not_run"]
        else "that knows only this folder"
    )
    rows = [
        (name, f"{figures['max_abs_diff']:.2g}", f"{figures['tolerance']:.2g}")
        for name, figures in (("torch", result), *result.get("backends", {}).items())
    ]
    told = f"A fresh process {who} answered {result['n']} recorded inputs again:\n\n"
    told += table(("backend", "largest difference of a logit", "allowed"), rows)
    text = layout.with_section(readme.read_text(encoding="utf-8"), "## Verified", told)
    atomic.write_bytes(readme, text.encode())
    manifest["files"]["README.md"] = {"size": readme.stat().st_size, "sha256": layout.hash_file(readme)}


def find_recorded(package: Path, recorded: Path | str | None = None) -> Path | None:
    """The given file of recorded predictions, or else that of the run that contains the package.

    Raises:
        PackageError: the named file does not exist.
    """
    if recorded is not None:
        if not Path(recorded).is_file():
            raise PackageError(f"{recorded} does not exist.", fix="Name a file of recorded predictions.", exit_code=2)
        return Path(recorded).resolve()
    in_run = package.parent / layout.RECORDED
    return in_run if in_run.is_file() else None


def _judge(
    path: Path, answer: dict[str, Any], recorded: Path | None, *, tolerance: float, backend: str = "torch"
) -> None:
    if answer["foreign"]:
        raise PackageError(
            f"{path} imports hf_trainpipe, which is not installed where it will be served.",
            fix="In the recipe file, import from it only what the runtime contains.",
        )
    if answer["answers"] != answer["inputs"]:
        raise PackageError(
            f"{path} gave {answer['answers']} answers to {answer['inputs']} inputs.",
            fix="Write the package again (`hf-trainpipe package RUN`).",
        )
    if recorded is not None and (answer["max_abs_diff"] is None or answer["max_abs_diff"] > tolerance):
        gap = answer["max_abs_diff"]
        strange = "their shapes differ (are they of another package?), or one is not a number"
        found = strange if gap is None else f"by {gap:.3g}"
        raise PackageError(
            f"{path} ({backend}) does not reproduce its {answer['n']} recorded predictions: logits may differ by "
            f"{tolerance:g}, found {found} (first at line {answer['worst'] + 1} of {recorded.name}).",
            fix="Do not use this package with these predictions: they are of another package, the package was changed, or "
            "library versions were. Write it again.",
        )
