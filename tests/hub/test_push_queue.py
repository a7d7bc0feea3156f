from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hf_trainpipe.errors import PushError, RecipeError
from hf_trainpipe.hub.mirror import _put_home, parse_source
from hf_trainpipe.hub.push_queue import Entry, PushQueue, describe_file
from hf_trainpipe.hub.retry import RetryPolicy, retry_after
from hf_trainpipe.recipe import Hub

ASKED = Entry(kind="package", repo="user/name", message="Package x")


class Answer(OSError):
    """What the Hub's client raises: an error with a response."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"Client error '{status}' for url 'https://store.example/x?X-Signature=canary'")
        self.response = type("Response", (), {"status_code": status, "headers": headers})


def patient(errors: list[Exception], *, attempts: int = 4) -> tuple[list[float], object]:
    """The waits between the tries of a call that fails so, and what it ends with."""
    waits: list[float] = []
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    try:
        policy = RetryPolicy(attempts=attempts, wait_s=8.0, pause=waits.append)
        return waits, policy.run("upload", call, repo="user/name", retry="hf-trainpipe push x --retry")
    except PushError as error:
        return waits, error


def test_waits_grow_with_a_random_part_and_have_a_limit() -> None:
    waits, outcome = patient([ConnectionError()] * 6, attempts=7)
    assert outcome == "done"
    bounds = [(4, 8), (8, 16), (16, 32), (32, 60), (60, 60), (60, 60)]
    assert [low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True)] == [True] * 6
    assert patient([ConnectionError()] * 3)[0] != patient([ConnectionError()] * 3)[0]


@pytest.mark.parametrize("status", [429, 503])
def test_the_hub_says_how_long_to_wait(status: int) -> None:
    assert patient([Answer(status, **{"Retry-After": "7"})]) == ([7.0], "done")
    assert patient([Answer(status, **{"Retry-After": "9999"})])[0] == [60.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again_and_its_address_not_repeated(status: int) -> None:
    waits, error = patient([Answer(status)] * 9)
    assert waits == []
    assert isinstance(error, PushError)
    assert (error.status, "hf-trainpipe push x --retry" in error.fix) == (status, True)
    assert "canary" not in f"{error} {error.data}"


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        patient([KeyError("ours")])


def test_a_date_in_retry_after() -> None:
    at = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 00:00:45 GMT"}, now=at) == 15.0
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 00:00:01 GMT"}, now=at) == 0.0


@pytest.mark.parametrize("content", [b"", b"text\n", bytes(range(256)) * 9000])
def test_hashes_are_those_of_git(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    told = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert describe_file(tmp_path / "file").blob == told.stdout.strip()


def test_an_entry_keeps_its_files_and_comes_back_whole(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("a")
    (tmp_path / "large").write_bytes(b"x" * (2 << 20))
    queue = PushQueue(tmp_path / "outbox", owner="runs/x")
    entry = queue.add(ASKED, {"small": tmp_path / "small", "deep/large": tmp_path / "large"})
    entry = queue.update(entry, state="published", commit="c" * 40, removed=("old",))
    (tmp_path / "small").write_text("changed in place")
    (tmp_path / "large").unlink()
    [found] = PushQueue(tmp_path / "outbox", owner="runs/x").open_entries()
    assert found == entry
    assert (queue.folder(found) / "small").read_text() == "a"
    assert describe_file(queue.folder(found) / "deep/large") == found.files["deep/large"]
    queue.close(found, "done")
    assert queue.open_entries() == []
    assert sorted(path.name for path in (tmp_path / "outbox").iterdir()) == ["0001.json"]


def test_newest_wins_at_one_place_and_leaves_others_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    queue = PushQueue(tmp_path / "outbox", owner="runs/x")
    for entry in (ASKED, replace(ASKED, branch="next"), replace(ASKED, kind="checkpoint"), replace(ASKED, step=7)):
        queue.add(entry, {"f": tmp_path / "f"})
    assert [(entry.id, entry.state) for entry in queue.entries()] == [
        ("0001", "superseded"), ("0002", "queued"), ("0003", "queued"), ("0004", "queued"),
    ]  # fmt: skip
    assert not (tmp_path / "outbox/0001").exists()


def test_a_torn_or_foreign_file_is_passed_over_and_old_ones_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    queue = PushQueue(tmp_path / "outbox", owner="runs/x")
    for _ in range(25):
        queue.close(queue.add(ASKED, {"f": tmp_path / "f"}), "done")
    (tmp_path / "outbox/0099.json").write_text('{"id": "00')
    assert [entry.id for entry in queue.entries()] == [f"{number:04d}" for number in range(6, 26)]
    later = json.loads((tmp_path / "outbox/0025.json").read_text()) | {"a field of a later version": 1}
    (tmp_path / "outbox/0025.json").write_text(json.dumps(later))
    assert len(queue.entries()) == 20


def test_the_outbox_of_a_run_of_its_package_and_of_a_package_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run/package").mkdir(parents=True)
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "copied").mkdir()
    assert PushQueue.of(tmp_path / "run").path == tmp_path / "run/outbox"
    assert PushQueue.of(tmp_path / "run/package").path == tmp_path / "run/outbox"
    assert PushQueue.of(tmp_path / "copied").path == tmp_path / "copied.outbox"
    with pytest.raises(PushError, match="cannot be made"):
        PushQueue(tmp_path / "gone/outbox", owner="x").add(ASKED, {})
    assert not (tmp_path / "gone").exists()


def test_one_process_pushes_at_a_time(tmp_path: Path) -> None:
    queue = PushQueue(tmp_path / "outbox", owner="runs/x")
    with queue.lock(), pytest.raises(PushError, match="Another process"), queue.lock(timeout=0.0):
        pass


def test_home_is_written_as_a_variable_and_read_as_the_home_there() -> None:
    recipe = {"data": {"kind": "Path", "path": "/srv/people/ada/x.csv"}, "name": "/srv/people/adam", "n": [1, "~/x"]}
    mirrored = _put_home(recipe, "/srv/people/ada", "$HOME")
    assert mirrored["data"]["path"] == "$HOME/x.csv"
    assert mirrored["name"] == "/srv/people/adam"
    assert _put_home(mirrored, "$HOME", "/srv/people/ada") == recipe


@pytest.mark.parametrize("spelled", ["user/name", "hub:name", "hub:user/name@", "https://hub/user/name"])
def test_where_to_resume_from_is_checked(spelled: str) -> None:
    with pytest.raises(RecipeError, match="hub:user/name"):
        parse_source(spelled)


def test_what_a_recipe_says_about_the_hub_is_checked() -> None:
    with pytest.raises(RecipeError, match=r"hub\.when.*'always'"):
        Hub("user/name", when="always")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"hub\.language: expected a tuple"):
        Hub("user/name", language="en")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"hub\.repo"):
        Hub("name")
