"""Whole runs from the command line."""

from __future__ import annotations

import json
import sys


def offline_points(run_dir) -> dict[str, list[float]]:
    """What the real Neptune client wrote offline: series by name."""
    series: dict[str, list[float]] = {}
    decoder = json.JSONDecoder()
    for log in run_dir.glob(".neptune/offline/*/data-*.log"):
        text = log.read_text()
        position = 0
        while position < len(text):
            record, position = decoder.raw_decode(text, position)
            while position < len(text) and text[position].isspace():
                position += 1
            operation = record["obj"]
            if operation["type"] == "LogFloats":
                series.setdefault("/".join(operation["path"]), []).extend(x["value"] for x in operation["values"])
    return series


def test_accelerate_launch_of_a_recipe_file_with_neptune_offline(workshop) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    (workshop.folder / "tracked.py").write_text((workshop.folder / "recipes.py").read_text().replace(
        "main(recipe)", "main(tracked)"))  # fmt: skip
    done = workshop.run(*launch, "tracked.py", "--budget.max-steps", "8")
    assert done.code == 0, done.err
    synced = workshop.run(sys.executable, "-m", "hf_trainpipe", "track", "sync", "runs/tracked")
    assert synced.code == 0, synced.err
    assert "offline" in done.err + synced.err + (workshop.folder / "runs/tracked/tracking/follower.log").read_text()
    ledger = workshop.ledger("runs/tracked")
    series = offline_points(workshop.folder / "runs/tracked")
    logged = [value for path, values in series.items() if path.endswith("train/loss") for value in values]
    assert logged == [value for (name, _), value in sorted(ledger.items()) if name == "train/loss"]


def test_tagging_with_windows_scores_every_word(workshop) -> None:
    done = workshop.train("recipes.py:tagging", "--run-dir", "tagging", "--budget.max-steps", "30")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (workshop.folder / "dev.jsonl").read_text().splitlines()]
    assert max(len(row["tokens"]) for row in rows) > 16  # longer than a window of 16 tokens
    scores = done.result["scores"]["validation"]
    assert scores["entity_f1"]["n"] == len(rows)
    assert scores["tag_accuracy"]["value"] > 0.5
    asked = workshop.run(sys.executable, "-m", "hf_trainpipe", "evaluate", "tagging", "--split", "validation", "--json")
    assert asked.code == 0, asked.err
    again = json.loads(asked.out)["scores"]
    assert again["entity_f1"]["value"] == scores["entity_f1"]["value"]


def test_predict_reads_and_writes_files(workshop, whole) -> None:
    (workshop.folder / "texts.txt").write_text("a good and lovely film\nthis was awful\n")
    done = workshop.run(
        sys.executable, "-m", "hf_trainpipe", "predict", "whole/package",
        "--input", "texts.txt", "--output", "answers.jsonl",
    )  # fmt: skip
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in (workshop.folder / "answers.jsonl").read_text().splitlines()]
    assert [(row["row"], row["text"]) for row in answers] == [(1, "a good and lovely film"), (2, "this was awful")]
    assert answers[0]["label"] == "positive"


def test_show_loads_no_weights(workshop) -> None:
    (workshop.folder / "model/model.safetensors").rename(workshop.folder / "kept")
    try:
        (workshop.folder / "model/model.safetensors").write_bytes(b"no weights here")
        done = workshop.run(sys.executable, "-m", "hf_trainpipe", "show", "recipes.py")
    finally:
        (workshop.folder / "kept").replace(workshop.folder / "model/model.safetensors")
    assert done.code == 0, done.err
    for words in ("BertForSequenceClassification", "26 (13 an epoch)", "peak_lr: 0.01", "examples    200"):
        assert words in done.out


def test_the_package_alone_is_pushed_and_nothing_of_the_run(workshop, whole) -> None:
    assert (workshop.folder / "whole/recorded.jsonl").exists()
    inside = {path.name for path in (workshop.folder / "whole/package").iterdir()}
    assert "recorded.jsonl" not in inside
    assert {"handler.py", "trainpipe.json", "model.safetensors", "requirements.txt", "README.md"} <= inside
