"""Settings that must not change between an interrupted run and its resume."""

from __future__ import annotations

import copy

import pytest

from hf_trainpipe.checkpoint.contract import FREE, check_resume, compare, compare_versions
from hf_trainpipe.errors import RecipeError, ResumeMismatch

RUN = {
    "recipe": {
        "name": "sst2",
        "model": {"name": "model", "lora": {"rank": 8, "save_adapter": False}},
        "data": {"kind": "ChosenRows", "source": {"kind": "AddedRows"}},
        "task": {"kind": "TokenClassification", "lost_spans": 0.1},
        "optim": {"peak_lr": 2e-05, "betas": [0.9, 0.999], "freeze_embeddings": False},
        "evaluation": {"errors": 10, "errors_in_card": 3, "profile": True},
        "budget": {"log_every": 10, "keep_checkpoints": 2, "epochs": 3.0, "max_steps": None},
        "preprocessing": [{"kind": "NormalizeSpace"}, {"kind": "SpacySentences", "keep_first": 8}],
        "trackers": [],
        "hub": None,
        "seed": 17,
    },
    "fingerprints": {"data": "a" * 64, "tokenizer": "b" * 64, "labels": "c" * 64},
    "versions": {"torch": "2.13.0", "numpy": "2.0"},
    "git_commit": "1234",
}


def changed(path: str, value: object) -> dict:
    run = copy.deepcopy(RUN)
    *parents, last = path.split("/")
    target = run
    for parent in parents:
        target = target[int(parent) if isinstance(target, list) else parent]
    target[last] = value
    return run


def lines(new, **options):
    return [str(difference) for difference in compare(RUN, new, **options)]


def test_the_same_run_has_no_differences():
    assert compare(RUN, copy.deepcopy(RUN)) == []
    check_resume(RUN, copy.deepcopy(RUN))


def test_a_line_shows_field_old_and_new():
    assert lines(changed("recipe/optim/peak_lr", 1e-05)) == ["optim.peak_lr: 2e-05 -> 1e-05"]
    assert lines(changed("recipe/preprocessing/1/keep_first", 4)) == ["preprocessing[1].keep_first: 8 -> 4"]
    assert lines(changed("recipe/optim/betas", [0.9, 0.95])) == ["optim.betas[1]: 0.999 -> 0.95"]
    assert lines(changed("recipe/optim/new_field", 1)) == ["optim.new_field: (absent) -> 1"]
    assert lines(changed("recipe/optim/new_field", None)) == []  # a setting of a later version, not used
    assert lines(changed("recipe/preprocessing", []))[0].startswith("preprocessing: [{'kind'")
    assert lines(changed("fingerprints/labels", "x")) == [f"fingerprints.labels: '{'c' * 55} ... -> 'x'"]


@pytest.mark.parametrize("name", ["data", "tokenizer", "labels"])
def test_each_fingerprint_is_refused_and_can_be_allowed(name):
    new = changed(f"fingerprints/{name}", "other")
    with pytest.raises(ResumeMismatch, match=f"fingerprints.{name}"):
        check_resume(RUN, new)
    for allowed in (f"fingerprints.{name}", name):
        check_resume(RUN, new, allow={allowed})


def test_numbers_that_are_equal_are_equal_and_booleans_are_no_numbers():
    assert lines(changed("recipe/budget/epochs", 3)) == []
    assert lines(changed("recipe/optim/freeze_embeddings", 0)) == ["optim.freeze_embeddings: False -> 0"]


def test_free_fields_change_without_being_asked():
    for field in FREE:
        assert lines(changed("recipe/" + field.replace(".", "/"), {"some": "thing"})) == []


def test_allow_change_covers_a_field_and_its_subfields_only():
    new = changed("recipe/optim/peak_lr", 1e-05)
    new["recipe"]["optim"]["peak_lr_2"] = 1
    new["recipe"]["preprocessing"][1]["keep_first"] = 4
    assert lines(new, allow={"optim", "preprocessing"}) == []
    assert lines(new, allow={"optim.peak-lr", "preprocessing[1]"}) == ["optim.peak_lr_2: (absent) -> 1"]


def test_the_refusal_lists_all_fields_and_the_way_out():
    new = changed("recipe/optim/peak_lr", 1e-05)
    new["recipe"]["seed"] = 18
    with pytest.raises(ResumeMismatch) as caught:
        check_resume(RUN, new)
    error = caught.value
    assert "optim.peak_lr: 2e-05 -> 1e-05\n  seed: 17 -> 18" in error.message
    assert "--allow-change optim.peak_lr --allow-change seed" in error.fix
    assert "--run-dir" in error.fix
    assert error.exit_code == 2


def test_an_unknown_allow_change_field_is_refused_with_a_suggestion():
    with pytest.raises(RecipeError, match=r"Did you mean 'optim\.peak_lr'"):
        check_resume(RUN, RUN, allow={"optim.peek_lr"})


def test_versions_and_commit_are_warned_of():
    new = copy.deepcopy(RUN)
    new["versions"] = {"torch": "2.14.0", "numpy": "2.0", "scipy": "1.0"}
    new["git_commit"] = None
    warnings = compare_versions(RUN, new)
    assert [warning.split(":")[1].strip() for warning in warnings] == [
        "(none) -> 1.0",
        "2.13.0 -> 2.14.0",
        "1234 -> (none)",
    ]
