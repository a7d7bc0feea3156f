"""Verify a package: its files are whole, and a fresh process reproduces recorded answers with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout, probe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["find_recorded", "read_recorded", "record", "verify", "verify_clean"]

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_KEPT_PREFIXES = ("OMP_", "MKL_", "KMP_")
_SHOWN_LINES = 12


def record(predictor_outputs: Any, inputs: Sequence[Any], path: Path | str) -> Path:
    """Write ``{"input", "output"}`` lines for :func:`verify`. They hold texts: keep them in the run.

    Args:
        predictor_outputs: ``Predictor.outputs(inputs)``.
        inputs: Raw inputs, in the handler's forms (text, ``{"text", "text_pair"}``, ``{"words"}``).
        path: Usually ``recorded.jsonl`` in the run's directory.
    """
    path = Path(path)
    rows = probe.as_lists(predictor_outputs, len(inputs))
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for given, row in zip(inputs, rows, strict=True):
            stream.write(json.dumps({"input": given, "output": row}, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    return path


def verify(
    package: Path | str,
    *,
    recorded: Path | str | None = None,
    tolerance: float = 1e-5,
    python: Path | str | None = None,
    onnx_python: Path | str | None = None,
    device: str | None = None,
    allow_code: bool = True,
    timeout_s: float = 600.0,
) -> dict[str, Any]:
    """Check the files of ``package`` (or of a run's), and load it in a process that knows nothing else.

    That process is isolated (``python -I``), starts in another directory, sees no PYTHONPATH, no tokens and
    no network, and imports the package's own ``handler.py``. Its logits must equal the recorded ones. Each ONNX
    model in the package gets a process of its own, and the tolerance that its gate set.
    It runs the code that is in the package: verify your own, not a stranger's.

    Args:
        recorded: Lines of :func:`record`; None: those of the run that the package lies in, if there are any,
            else the package only has to load and to answer a made-up input.
        tolerance: Largest allowed absolute difference of a logit of the torch model.
        python: An interpreter of another environment; None: this one.
        onnx_python: An interpreter for the ONNX models; None: ``python``.
        device: Where the model runs, such as ``cpu``; None: the handler's choice.
        allow_code: Whether classes of the recipe file that travels in the package may be loaded.

    Returns:
        ``{"passed", "n", "max_abs_diff", "tolerance", "python", "time"}``, with ``backends`` (the same figures of
        each ONNX model) where there are some. It is kept in trainpipe.json under ``verified``, and told in the card.

    Raises:
        PackageError: exit code 6, with the figures, if anything differs.
    """
    path = layout.find_package(package).resolve()
    manifest = layout.read_manifest(path)
    recorded = find_recorded(path, recorded)
    result: dict[str, Any] = {
        "passed": False,
        "n": 0,
        "max_abs_diff": None,
        "tolerance": tolerance,
        "python": None,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        if problems := layout.check_files(path, manifest):
            raise PackageError(
                f"{path} is not as it was written: {'; '.join(problems)}.",
                fix="Write the package again (`hf-trainpipe package RUN`).",
                problems=problems,
            )
        request = {
            "package": str(path),
            "recorded": None if recorded is None else str(recorded),
            "allow_code": allow_code and manifest.get("code") is not None,
        }
        backends: dict[str, dict[str, Any]] = manifest.get("backends") or {}
        if backends:
            result["backends"] = {}
            request["backend"] = "torch"
        answer = _run(request, python=python, device=device, timeout_s=timeout_s)
        result.update({name: answer[name] for name in ("n", "max_abs_diff", "python")})
        _judge(path, answer, recorded=recorded, tolerance=tolerance)
        for name, facts in backends.items():
            answer = _run({**request, "backend": name}, python=onnx_python or python, device="cpu", timeout_s=timeout_s)
            figures = {key: answer[key] for key in ("n", "max_abs_diff", "python")}
            result["backends"][name] = {"passed": False, **figures, "tolerance": facts["tolerance"]}
            _judge(path, answer, recorded=recorded, tolerance=float(facts["tolerance"]), backend=name)
            result["backends"][name]["passed"] = True
        result["passed"] = True
        _tell(path, manifest, result)
    finally:
        manifest["verified"] = result
        layout.write_json(path / layout.MANIFEST, manifest)
    return result


def verify_clean(
    package: Path | str, *, recorded: Path | str | None = None, folder: Path | str | None = None, **options: Any
) -> dict[str, Any]:
    """As :func:`verify`, in new virtual environments that hold only what the package's requirements.txt names.

    A package with ONNX models gets a second one for them, of ``onnx/requirements.txt``: without torch.

    Args:
        folder: Keeps the environments for the next time; None: a temporary folder.
        options: Those of :func:`verify`.

    Raises:
        PackageError: an environment cannot be made, is not clean, or an answer differs.
    """
    from hf_trainpipe.package.clean import environment

    path = layout.find_package(package).resolve()
    with tempfile.TemporaryDirectory(prefix="trainpipe-clean-") as temporary:
        root = Path(folder or temporary).resolve()
        python = environment(root / "torch", path / "requirements.txt")
        light = path / "onnx" / "requirements.txt"
        onnx_python = environment(root / "onnx", light) if light.is_file() else None
        return verify(path, recorded=recorded, python=python, onnx_python=onnx_python, **options)


def read_recorded(path: Path) -> list[dict[str, Any]]:
    """The ``{"input", "output"}`` lines of :func:`record`."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def _tell(path: Path, manifest: dict[str, Any], result: dict[str, Any]) -> None:
    """Put the result into the card, and the card's new hash into the manifest."""
    readme = path / "README.md"
    if not result["n"] or not readme.is_file():
        return
    lines = [
        f"A fresh process that knows only this folder answered {result['n']} recorded inputs again:",
        "",
        "| backend | largest difference of a logit | allowed |",
        "| --- | --- | --- |",
    ]
    for name, figures in (("torch", result), *result.get("backends", {}).items()):
        lines.append(f"| {name} | {figures['max_abs_diff']:.2g} | {figures['tolerance']:.2g} |")
    text = layout.with_section(readme.read_text(encoding="utf-8"), "## Verified", "\n".join(lines))
    temporary = readme.with_name(f".tmp-README.md-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, readme)
    manifest["files"]["README.md"] = {"size": readme.stat().st_size, "sha256": layout.hash_file(readme)}


def find_recorded(package: Path, recorded: Path | str | None = None) -> Path | None:
    """The recorded predictions named, or else those of the run that the package lies in.

    Raises:
        PackageError: the named file does not exist.
    """
    if recorded is not None:
        if not Path(recorded).is_file():
            raise PackageError(f"{recorded} does not exist.", fix="Name a file of recorded predictions.", exit_code=2)
        return Path(recorded).resolve()
    beside = package.parent / layout.RECORDED
    return beside if beside.is_file() else None


def _environment(home: str, device: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    kept |= {"HOME": home, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if device == "cpu":
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return kept


def _run(request: dict[str, Any], *, python: Path | str | None, device: str | None, timeout_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trainpipe-verify-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [str(python or sys.executable), "-I", "-B", str(Path(probe.__file__).resolve())]
        try:
            done = subprocess.run(
                [*command, str(asked), str(answered)],
                cwd=folder,
                env=_environment(folder, device),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PackageError(
                f"The package did not answer within {timeout_s:g} s in a fresh process.",
                fix="Record fewer predictions, or allow more time.",
            ) from None
        if done.returncode != 0:
            shown = "\n".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
            raise PackageError(
                f"The package does not work in a fresh process (exit {done.returncode}):\n{shown}",
                fix="Install what its requirements.txt names; if it still fails, write the package again.",
                stderr=done.stderr,
            )
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
        return answer


def _judge(
    path: Path, answer: dict[str, Any], *, recorded: Path | None, tolerance: float, backend: str = "torch"
) -> None:
    if answer["foreign"]:
        raise PackageError(
            f"{path} loads hf_trainpipe, which is not there where it will be served.",
            fix="Let the recipe file that travels in the package import it only for what the runtime has.",
        )
    if answer["answers"] != answer["inputs"]:
        raise PackageError(
            f"{path} gave {answer['answers']} answers to {answer['inputs']} inputs.",
            fix="Write the package again (`hf-trainpipe package RUN`).",
        )
    if recorded is not None and (answer["max_abs_diff"] is None or answer["max_abs_diff"] > tolerance):
        gap = answer["max_abs_diff"]
        found = "their shapes differ, or one is not a number" if gap is None else f"by {gap:.3g}"
        raise PackageError(
            f"{path} ({backend}) does not reproduce its {answer['n']} recorded predictions: logits may differ by "
            f"{tolerance:g}, found {found} (first at line {answer['worst'] + 1} of {recorded.name}).",
            fix="Do not use this package. Write it again; if that does not help, library versions changed.",
            max_abs_diff=gap,
            tolerance=tolerance,
            n=answer["n"],
        )
