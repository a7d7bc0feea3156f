"""Training on a stream from the Hub: a kill in a later window, and an exact resume."""

from __future__ import annotations

import json

import pytest

from hf_trainpipe.testing import tiny_rows
from tests import warm
from tests.data.test_sources_hub import FIRST, REPO, Hub, serve

RECIPE = f"""
import recipes
from hf_trainpipe import HubData, main, replace


def recipe():
    budget = replace(recipes.recipe().budget, max_steps=26, save_every=4, log_every=1)
    data = HubData({REPO!r}, validation="validation", streaming=True, window=64)
    return replace(recipes.recipe(), name="streamed", data=data, budget=budget)


if __name__ == "__main__":
    main(recipe)
"""


def lines(count: int, seed: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in tiny_rows(count, seed=seed)).encode()


@pytest.fixture(scope="module")
def hub(workshop):
    """150 rows in two shards: with windows of 64 rows, 26 steps of 16 are six and a half windows, two passes and more."""
    stand_in = Hub()
    stand_in.commits[FIRST] = {
        "train-00000-of-00002.jsonl": lines(100, 1),
        "train-00001-of-00002.jsonl": lines(50, 3),
        "validation-00000-of-00001.jsonl": lines(61, 2),
    }
    (workshop.folder / "streaming.py").write_text(RECIPE)
    with serve(stand_in) as endpoint:
        variables = {
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HOME": str(workshop.folder / "hf"),
            "HF_TRAINPIPE_TRACE": "1",
            "no_proxy": "127.0.0.1",
        }
        with warm.waits_with(workshop.environment(variables)):
            yield variables


def trace(workshop, run: str, ranks: int = 1) -> dict[int, list[int]]:
    steps: dict[int, list[int]] = {}
    for rank in range(ranks):
        last = {}
        for line in (workshop.folder / run / f"trace-rank{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            last[entry["step"]] = entry["examples"]
        for step, examples in last.items():
            steps[step] = sorted([*steps.get(step, []), *examples])
    return steps


def test_a_stream_is_trained_on_window_by_window_and_resumed_exactly(workshop, hub) -> None:
    done = workshop.train("streaming.py", "--run-dir", "stream", **hub)
    assert done.code == 0, done.err
    steps = trace(workshop, "stream")
    assert len(steps) == 26
    for window in range(6):  # each row of a window once
        assert sorted(row for step in range(1, 5) for row in steps[4 * window + step]) == list(range(64))
    kept = [place.name for place in (workshop.folder / "stream/stream").glob("window-*") if place.is_dir()]
    assert sorted(kept) == ["window-000005", "window-000006"]

    for kill_at, saved in ((11, 8), (8, 12)):  # a save that is still being written does not count: each is waited for
        checkpoint = workshop.folder / f"stream-killed/checkpoints/step-{saved:08}"
        wait = {"WAIT_AT": str(kill_at - 1), "WAIT_FOR": str(checkpoint)}
        done = workshop.train("streaming.py", "--run-dir", "stream-killed", KILL_AT=str(kill_at), **wait, **hub)
        assert done.code != 0
    done = workshop.train("streaming.py", "--run-dir", "stream-killed", **hub)
    assert done.code == 0, done.err
    assert "continuing after step 12" in done.err, (
        "the run goes on in a later window, which it never saw from its beginning"
    )
    assert workshop.weights("stream-killed") == workshop.weights("stream")
    assert trace(workshop, "stream-killed") == steps


@pytest.mark.nightly
def test_two_ranks_draw_the_same_rows_from_a_stream(workshop, hub) -> None:
    done = workshop.train("streaming.py", "--run-dir", "stream-pair", ranks=2, **hub)
    assert done.code == 0, done.err
    assert trace(workshop, "stream-pair", ranks=2) == trace(workshop, "stream")


def test_what_a_stream_cannot_do_is_refused(workshop, hub) -> None:
    for options, said in (
        (["--budget.max-steps", "none"], "the length of a stream is unknown"),
        (["--tokens.overflow", "drop"], "counted before any are dropped"),
        (["--data.train", "train[:10]"], "a stream cannot be split"),
    ):
        done = workshop.train("streaming.py", "--run-dir", "stream-refused", *options, **hub)
        assert done.code == 2, done.err
        assert said in done.err
