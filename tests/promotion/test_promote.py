"""Packages that are promoted, refused and rolled back, in a folder and on the Hub."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_trainpipe import Files, Pretrained, Recipe, TextClassification
from hf_trainpipe.cli import run
from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.package import layout
from hf_trainpipe.promotion.alias import Kind, Log, Record, digest_of, open_alias
from hf_trainpipe.promotion.gate import Terms
from hf_trainpipe.promotion.hub_store import BRANCH
from hf_trainpipe.promotion.promote import Rows, promote
from hf_trainpipe.runtime.handler.predictor import Predictor
from tests.hub.hub_server import Blob, Fault, Hub
from tests.hub.test_upload import hub as hub  # in this process
from tests.package.conftest import WORDS, tiny_model, write_package

TERMS = Terms(margin=1.0)


def package_of(run_dir: Path, noise: float) -> Path:
    """The same model with a little noise in its weights."""
    model = tiny_model(("calm", "angry", "sad"))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=draw))
    package = write_package(run_dir, model=model)
    manifest = layout.read_manifest(package)
    layout.write_json(package / layout.MANIFEST, {**manifest, "verified": {"passed": True}})
    return package


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``first``, ``same`` (its answers, other weights) and ``worse``, and test rows that ``first`` gets right."""
    folder = tmp_path_factory.mktemp("promotion")
    for name, noise in (("first", 0.0), ("same", 1e-5), ("worse", 0.2)):
        package_of(folder / name, noise)
    texts = [f"{one} {two}" for one in WORDS[:15] for two in WORDS[:15]]
    answers = Predictor.load(folder / "first" / "package").predict(texts, top_k=1)
    for name, rows in (("test", texts), ("other", texts[:200])):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [("text", "label"), *((text, answer[0]["label"]) for text, answer in zip(rows, answers, strict=False))]
            )
    return folder


def recipe(folder: Path, test: str = "test.csv") -> Recipe:
    return Recipe(
        name="tiny", model=Pretrained("m"), data=Files(train=test, test=test, root=str(folder)),
        task=TextClassification("text", label="label"),
    )  # fmt: skip


def test_the_gate_decides_once_and_counts_the_uses_of_the_test_rows(made: Path, tmp_path: Path) -> None:
    alias, asked = open_alias(str(tmp_path / "alias")), recipe(made)

    def tried(name: str, **further: Any) -> tuple[str, int, bool]:
        found = promote(made / name, alias, asked, **{"terms": TERMS, **further})
        return found.record.kind, found.uses, found.is_new

    terms = Terms(margin=2.0)
    assert tried("first") == ("promoted", 0, True), "nothing was there to hold it against"
    assert tried("worse", terms=terms) == ("refused", 1, True)
    assert tried("worse", terms=terms) == ("refused", 1, False), "the same question has an answer already"
    with pytest.raises(DataError, match=r"the test rows are frozen \([0-9a-f]{12}\), and these 200 are others"):
        promote(made / "same", alias, recipe(made, "other.csv"), terms=TERMS)
    assert tried("same", terms=terms) == ("promoted", 2, True)
    assert tried("same", terms=terms) == ("promoted", 2, False), "it holds the alias"
    number, package = alias.current()
    assert (number, digest_of(package)) == (3, digest_of(made / "same" / "package"))
    assert (package.parent / layout.RECORDED).is_file(), "a server can prove what it loads"
    assert promote(made / "worse", alias, recipe(made, "other.csv"), terms=TERMS, rows=Rows(new_test=True)).uses == 1
    back = alias.roll_back()
    assert (back.restores, digest_of(alias.current()[1])) == (1, digest_of(made / "first" / "package"))


def test_the_command_line_says_why_and_exits_with_11(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Test rows that are too few, and a package that was changed."""
    alias = str(tmp_path / "alias")
    (tmp_path / "r.json").write_text(
        json.dumps({
            "kind": "Recipe", "name": "tiny", "model": {"kind": "Pretrained", "name": "m"},
            "data": {"kind": "Files", "train": "test.csv", "test": "test.csv", "root": str(made)},
            "task": {"kind": "TextClassification", "text": "text", "label": "label"},
        })
    )  # fmt: skip
    command = ["--over", alias, "--recipe", str(tmp_path / "r.json")]
    assert run(["promote", str(made / "first"), *command]) == 0
    assert run(["promote", str(made / "same"), *command, "--json"]) == 11
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["promoted"], told["decision"]["tests"][0]["needed"]) == (False, 539)
    assert run(["promote", str(made / "same"), *command]) == 11
    said = capsys.readouterr().out
    assert "NOT SHOWN to be no worse by 0.005 in accuracy on test: 1.0000 to 1.0000" in said
    assert "even equal answers would need 539 rows" in said
    assert "used 1 time to decide" in said
    assert run(["rollback", alias]) == 2
    assert "found nothing before the present one" in capsys.readouterr().err
    assert run(["rollback", alias, "--show"]) == 0
    assert "1  20" in capsys.readouterr().out
    changed = package_of(tmp_path / "changed", 1e-5)
    (changed / "config.json").write_text("{}")
    with pytest.raises(PackageError, match="not as it was written"):
        promote(changed, open_alias(alias), recipe(made), terms=TERMS)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own uploads
def test_on_the_hub_tags_follow_a_log_that_takes_a_number_once(
    made: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    alias = open_alias("hub:user/tiny")
    held = {name: alias.take(made / name / "package", source=name) for name in ("first", "same")}

    def takes(log: Log, name: str, seen: int) -> Record:
        kind: Kind = "promoted" if log.turn == seen else "raced"
        return Record(number=0, kind=kind, package=held[name], over=log.turn or None)

    assert alias.append(lambda log: takes(log, "first", 0)).number == 1
    repository = hub.repositories["user/tiny"]

    def somebody() -> None:
        """Commits a promotion between this one's look at the log and its own commit."""
        files = repository.commits[repository.branches[BRANCH]]
        other = Record(number=2, kind="promoted", package=held["same"], over=1)
        record = Blob(json.dumps(other.to_json()).encode(), lfs=False)
        repository.commit(BRANCH, {**files, "log/000002.json": record}, "Record 2")

    hub.faults.append(Fault("POST", rf"/commit/{BRANCH}", kind="meanwhile", meanwhile=somebody))
    late = alias.append(lambda log: takes(log, "first", 1))
    assert (late.number, late.kind) == (3, "raced")
    assert repository.tags == {"champion": held["same"].reference, "challenger": held["first"].reference}
    assert digest_of(alias.current()[1]) == digest_of(made / "same" / "package")
    alias.roll_back()
    assert repository.tags["champion"] == held["first"].reference
    assert Predictor.load(alias.current()[1]).predict(["ada"])
