from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.nightly import at_night
from tests.tasks import contract

FOREIGN = Path(__file__).parent / "foreign.py"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    contract.write_inputs(folder)
    shutil.copy(FOREIGN, folder / "foreign.py")
    return folder


@pytest.fixture(autouse=True)
def one_cache(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(inputs / "cache"))
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "1")
    monkeypatch.setenv("TRAINPIPE_ALLOW_CODE", "1")
    monkeypatch.setattr("hf_trainpipe.watch.profile.LEAST", 20)


@pytest.mark.parametrize("name", [*contract.TASKS, *at_night(*contract.MORE)])
def test_a_task_keeps_the_contract(name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = contract.train(name, inputs, tmp_path / "run", inputs / "foreign.py")
    contract.features_are_those_of_serving(trained)
    contract.more_ranks_than_examples(trained)
    contract.serves(trained)
    contract.answers_in_16_bits(trained)
    contract.predict_is_evaluate(trained)
    contract.watches(trained)
    contract.resumes_after_a_kill(trained, tmp_path / "killed", monkeypatch)
    contract.own_code_needs_consent(trained, monkeypatch)
