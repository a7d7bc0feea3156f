"""What an older version wrote is opened by this one: its packages answer as they did, its interrupted run goes on.

The archives come from tests/package/older/write.py, run with the code of the commit that names them. Numbers are compared
bit for bit on the kind of machine that wrote them, and within 1e-4 elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from hf_trainpipe import RunOptions, execute, load
from hf_trainpipe.package.verify import verify

ARCHIVES = sorted((Path(__file__).parent / "older").glob("*.tar.xz"))
KINDS = ("single", "tags", "spans", "multi", "regression")
WRITER = runpy.run_path(str(Path(__file__).parent / "older" / "write.py"))


@pytest.fixture(scope="session", params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(request.param) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def facts(older: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((older / "facts.json").read_text())
    return found


def is_same_machine(facts: dict[str, Any]) -> bool:
    return bool(facts["environment"] == WRITER["environment"]())


def assert_same(found: Any, expected: Any, *, exactly: bool) -> None:
    """Answers, field for field; ``exactly``: to the last bit."""
    if exactly:
        assert found == expected
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, exactly=False)
    else:
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), name


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    import torch

    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_answers_as_it_did(older: Path, facts: dict[str, Any], kind: str) -> None:
    case = facts["cases"][kind]
    package = load(older / kind)
    assert_same(package.predict(case["inputs"]), case["answers"], exactly=is_same_machine(facts))
    assert any(case["answers"]), "answers that prove nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_answers_by_its_own_runtime(older: Path, facts: dict[str, Any], kind: str) -> None:
    """With its own runtime, as served, and with --allow-code."""
    case = facts["cases"][kind]
    folder = older / kind / "package"
    handler = runpy.run_path(str(folder / "handler.py"))["EndpointHandler"](str(folder))
    assert_same(handler({"inputs": case["inputs"]}), case["answers"], exactly=is_same_machine(facts))


@pytest.mark.parametrize("allow_code", [False, True])
def test_a_package_verifies(older: Path, tmp_path: Path, allow_code: bool) -> None:
    shutil.copytree(older / "spans", tmp_path / "spans")
    result = verify(tmp_path / "spans", allow_code=allow_code)
    assert result["passed"]
    assert result["n"] == WRITER["RECORDED"]
    assert result["runtime"] == ("package" if allow_code else "installed")


def test_an_interrupted_run_goes_on_to_the_same_weights(
    older: Path, facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(older / "begun", tmp_path / "begun")
    shutil.copytree(older / "data", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    recipe = runpy.run_path("recipes.py")["begun"]()
    begun = sorted(path.name for path in Path("begun/checkpoints").iterdir())
    result = execute(recipe, run_dir=Path("begun"), options=RunOptions(resume="must"))
    assert "step-00000060" not in begun
    assert result.steps == 60
    assert result.verified["passed"]
    [reached] = Path("begun/checkpoints").glob("step-00000060/model.safetensors")
    found, expected = load_file(reached), load_file(older / "reached.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        # A key's bias adds the same to all that a query looks at: its gradient is what rounding leaves, another on each machine,
        # and Adam makes steps of full size of it.
        assert found[name] == pytest.approx(weight, abs=1e-2 if name.endswith("key.bias") else 1e-3), name
    if is_same_machine(facts):
        assert hashlib.sha256(reached.read_bytes()).hexdigest() == facts["weights"]
    attempts = {json.loads(line)["attempt"] for line in Path("begun/ledger.jsonl").read_text().splitlines()}
    assert attempts == {1, 2}, "it began anew"
