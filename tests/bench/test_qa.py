"""What run_qa's way learns and answers in the benchmark is what this project does: the same targets, and spans by the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from datasets import Dataset
from transformers import BertTokenizerFast

from hf_trainpipe import QuestionAnswering
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.testing import tiny_model, tiny_tagged

if TYPE_CHECKING:
    from types import ModuleType

BENCH = Path(__file__).resolve().parents[2] / "scripts/bench"


@pytest.fixture
def qa(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    import qa

    monkeypatch.setattr(qa, "LENGTH", 20)
    monkeypatch.setattr(qa, "STRIDE", 6)
    monkeypatch.setattr(qa, "TOKENS_OF_ANSWER", 5)  # so that each is whole in some window
    return qa


def test_targets_and_answers_are_ours(qa: ModuleType, tmp_path: Path) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(tiny_model(tmp_path))
    rows, draws = [], np.random.default_rng(3)
    for place, tagged in enumerate(tiny_tagged(24, seed=5)):
        words = tagged["tokens"] * (1 + place % 4)
        at = int(draws.integers(len(words)))
        answers = {"text": [words[at]], "answer_start": [len(" ".join(words[:at])) + (at > 0)]}
        rows.append({"question": "who ?", "context": " ".join(words), "answers": answers})
    task = QuestionAnswering(no_answer=False, most_tokens=qa.TOKENS_OF_ANSWER)
    read = Rows(Dataset.from_list(rows), "train")
    encoder = Encoder(tokenizer, max_length=qa.LENGTH, overflow="window", stride=qa.STRIDE)
    features = task.supervise(read, task.encode(read.inputs(task), encoder))

    learnt, made, stream = qa.to_learn(rows, tokenizer), qa.windows(rows, tokenizer), features.input
    owners = made["overflow_to_sample_mapping"]
    assert len(learnt) > len(rows)
    for feature, owner in enumerate(features.example.tolist()):
        if features.windows[owner] > 1:
            continue  # of longer contexts, other windows with the same overlap
        theirs = learnt[owners.index(owner)]
        if theirs["start_positions"] == qa.LENGTH - 1:
            continue  # run_qa lets an answer in the last token of a context start in what is behind it
        ours = stream["input_ids"][int(stream.starts[feature]) : int(stream.starts[feature + 1])]
        assert theirs["input_ids"][: sum(theirs["attention_mask"])] == ours.tolist()
        assert [theirs["start_positions"], theirs["end_positions"]] == features.dense["labels"][feature].tolist()
    for feature, owner in enumerate(owners):
        if 0 < (begin := learnt[feature]["start_positions"]) < qa.LENGTH - 1:
            end, places = learnt[feature]["end_positions"], made["offset_mapping"][feature]
            assert rows[owner]["context"][places[begin][0] : places[end][1]] == rows[owner]["answers"]["text"][0]

    # A score for each character that starts or ends a token: the same in every window.
    score_NL = draws.normal(size=(2, len(rows), 1 + max(len(row["context"]) for row in rows))).astype(np.float32)
    theirs = [
        [
            [score_NL[side, owner, place[side]] for place in made["offset_mapping"][feature]]
            for feature, owner in enumerate(owners)
        ]
        for side in (0, 1)
    ]
    said = qa.best_answers(rows, made, *np.array(theirs))
    example_T = np.repeat(features.example, stream.lengths)
    arrays = {name: score_NL[side, example_T, np.asarray(stream[name])] for side, name in enumerate(("start", "end"))}
    starts = dict.fromkeys(arrays, np.asarray(stream.starts))
    found = task.merge(Outputs(np.arange(features.num_features), arrays, starts), features)
    places = zip(found["start"].tolist(), found["end"].tolist(), strict=True)
    assert said == [row["context"][begin:end] for row, (begin, end) in zip(rows, places, strict=True)]
