"""Secrets in a run's environment and files are never uploaded, logged or printed."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_trainpipe.testing import write_rows
from hf_trainpipe.utils.secrets import scrub
from tests import warm
from tests.hub.hub_server import TOKEN, Hub, serve

AWS_ID, AWS_KEY = "AKIACANARYCANARY0001", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYCANARYKEY1"
NEPTUNE = base64.b64encode(json.dumps({"api_address": "http://127.0.0.1:9/canary"}).encode()).decode()
OPEN = "hf_" + "RecipeCanary" * 3
IN_DATA = "sk-datacanarydatacanarydata1"
PASSWORD = "correct-horse-canary"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": AWS_ID,
    "AWS_SECRET_ACCESS_KEY": AWS_KEY,
    "NEPTUNE_API_TOKEN": NEPTUNE,
    "DATABASE_PASSWORD": PASSWORD,
}
CANARIES = (TOKEN, AWS_ID, AWS_KEY, NEPTUNE, OPEN, IN_DATA, PASSWORD)

RECIPES = f'''
"""Never do this: the key is {OPEN}."""
from dataclasses import dataclass

from hf_trainpipe import Files, Hub, Neptune, NormalizeSpace, replace
from recipes import recipe

KEY = "{OPEN}"


def clean():
    """Trackers, mirrored checkpoints and pushes of the best model during training."""
    data = Files(train="canary.csv", validation="dev.csv")
    hub = Hub("user/tiny", when="best", checkpoints=True)
    return replace(recipe(), name="clean", data=data, trackers=(Neptune(project="team/tiny"),), hub=hub)


def talkative():
    """A secret in a field of the recipe: it is in trainpipe.json and in run.json."""
    return replace(clean(), name="talkative", hub=replace(clean().hub, limits=(KEY,)), trackers=())
'''


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """One for both runs: none of them may have sent a secret."""
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def online(workshop, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    (workshop.folder / "canary_recipes.py").write_text(RECIPES)
    with (workshop.folder / "train.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    write_rows(workshop.folder / "canary.csv", ({**row, "text": f"{row['text']} {IN_DATA}"} for row in rows))
    variables = {
        **ENVIRONMENT,
        **hub.environment(tmp_path_factory.mktemp("hub") / "hf"),
        "NEPTUNE_RETRIES_TIMEOUT": "1",
    }
    with warm.waits_with(workshop.environment(variables)):
        yield variables


def uploaded(hub: Hub) -> dict[str, bytes]:
    """Every byte that ever arrived: stored objects, and the files and messages of every commit."""
    found = {f"object {oid}": content for oid, content in hub.objects.items()}
    for repo, repository in hub.repositories.items():
        found |= {f"{repo} message {n}": text.encode() for n, text in enumerate(repository.messages)}
        for oid, files in repository.commits.items():
            found |= {f"{repo} {oid[:8]} {name}": blob.content for name, blob in files.items()}
    return found


def written(run: Path, *, less: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file of a run's directory, logs, ledger and outbox among them."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and not path.is_symlink() and path.relative_to(run).parts[0] not in less
    }


def leaks(found: dict[str, bytes], canaries: tuple[str, ...] = CANARIES) -> list[tuple[str, str]]:
    return [(name, canary) for name, content in found.items() for canary in canaries if canary.encode() in content]


def test_a_run_that_pushes_leaks_no_secret(workshop, online, hub) -> None:
    done = workshop.train("canary_recipes.py:clean", "--run-dir", "clean", "--budget.max-steps", "10", **online)
    assert done.code == 0, done.err
    assert done.result["push"]["state"] == "done"
    run = workshop.folder / "clean"
    files = uploaded(hub)
    assert any(name.endswith(" model.safetensors") for name in files)
    assert leaks(files) == []
    assert leaks(written(run)) == []
    assert {"ledger.jsonl", "outbox/background-push.log", "outbox/background-push.json", "run.json"} <= set(
        written(run)
    )
    assert leaks({"stdout": done.out.encode(), "stderr": done.err.encode()}) == []


def test_a_secret_in_the_recipe_is_refused_and_not_repeated(workshop, online, hub) -> None:
    done = workshop.train("canary_recipes.py:talkative", "--run-dir", "talkative", "--budget.max-steps", "6", **online)
    assert done.code == 5, done.err
    assert "README.md, line" in done.err
    assert "a Hugging Face token" in done.err
    assert "no model is pushed while it trains" in done.err
    assert leaks(uploaded(hub)) == []
    assert leaks({"stdout": done.out.encode(), "stderr": done.err.encode()}) == []
    run = workshop.folder / "talkative"
    # The recipe's own record and the package that may not leave hold what the recipe says; nothing else does.
    assert leaks(written(run, less=("run.json", "package"))) == []


def test_scrub_takes_out_values_tokens_and_signed_addresses() -> None:
    text = f"401 for {TOKEN}, {PASSWORD}, {json.dumps(PASSWORD)} and {AWS_ID}"
    cleaned = scrub(text, environment=ENVIRONMENT)
    assert leaks({"text": cleaned.encode()}) == []
    assert cleaned.startswith("401 for ***, ***")
