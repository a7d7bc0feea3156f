from __future__ import annotations

from typing import Any

import numpy as np

from hf_trainpipe.runtime.text.edits import Aligned
from hf_trainpipe.runtime.text.preprocessing import StripHtml
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features, Ragged, Stream, concatenate, join


def two_streams() -> Features:
    """Three features of two examples: a query on the left of its padding, a document on the right."""
    query = Stream(np.array([0, 2, 3, 6]), {"query_ids": Ragged(np.arange(1, 7))}, mask="query_mask", side="left")
    document = Stream(
        np.array([0, 1, 4, 5]),
        {
            "ids": Ragged(np.arange(11, 16), fill=9),
            "labels": Ragged(np.arange(5), fill=-100, to_model=False, to_loss=True),
        },
        mask="mask",
    )
    features = Features({"query": query, "document": document}, np.array([0, 0, 1], np.int32), 2)
    return features.with_targets(scores=np.array([0.5, 1.5, 2.5]), of_examples={"gold": np.array([7, 8])})


def test_each_stream_is_padded_on_its_side() -> None:
    batch = pad(two_streams(), [1, 2])
    assert batch["query_ids"].tolist() == [[0, 0, 3], [4, 5, 6]]
    assert batch["query_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert batch["ids"].tolist() == [[12, 13, 14], [15, 9, 9]]
    assert set(batch.inputs) == set(batch) == {"query_ids", "query_mask", "ids", "mask"}
    assert (batch.tokens, batch.padded_tokens) == (1 + 3 + 3 + 1, 6 + 6)


def test_tokens_are_counted_over_all_streams() -> None:
    features = two_streams()
    assert features.lengths.tolist() == [3, 4, 4]
    assert (features.num_tokens, features.windows.tolist()) == (11, [2, 1])


def test_the_loss_sees_targets_and_the_model_does_not() -> None:
    batch = pad(two_streams(), [0, 1, 2], with_targets=True)
    assert batch["weights"].tolist() == [0.5, 0.5, 1.0], "an example in two windows counts once"
    assert batch["scores"].tolist() == [0.5, 1.5, 2.5]
    assert batch["labels"].tolist() == [[0, -100, -100], [1, 2, 3], [4, -100, -100]]
    assert not {"labels", "scores", "weights"} & set(batch.inputs)
    nothing = batch.weightless()
    assert nothing["weights"].tolist() == [0.0] * 3
    assert nothing["labels"].tolist() == [[-100] * 3] * 3
    assert nothing["ids"].tolist() == batch["ids"].tolist()


def test_groups_of_examples_are_taken_apart_and_put_together() -> None:
    features = two_streams()
    parts = [features.part(0, 1), features.part(1, 1)]
    assert [part.of_examples["gold"].tolist() for part in parts] == [[7], [8]]
    whole = concatenate(parts)
    assert whole.example.tolist() == [0, 0, 1]
    assert whole.dense["scores"].tolist() == [0.5, 1.5, 2.5]
    single = join([(features, 2), (parts[0], 0)])
    assert single.streams["query"]["query_ids"].tolist() == [4, 5, 6, 1, 2]
    assert (single.example.tolist(), single.num_examples) == ([0, 1], 2)


def test_tokens_know_their_places_in_the_text_as_it_was_given(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, steps=(StripHtml(),), max_length=8, overflow="window", stride=1)
    question, context = "the <b>cat</b>", "<p>the dog sat good bad anna</p> left rome"
    features = encoder.texts([question], [context], with_places=True)
    stream = features.input
    plain = encoder.texts([question], [context]).input
    assert stream["input_ids"].tolist() == plain["input_ids"].tolist()
    seen: dict[int, set[str]] = {0: set(), 1: set()}
    for token, part, start, end in zip(
        *(stream[name].tolist() for name in ("input_ids", "part", "start", "end")), strict=True
    ):
        if part < 0:
            assert token in (tokenizer.cls_token_id, tokenizer.sep_token_id)
            continue
        there = (question, context)[part][start:end]
        assert tokenizer.convert_ids_to_tokens(token) == there.lower()
        seen[part].add(there)
    assert seen == {0: {"the", "cat"}, 1: {"the", "dog", "sat", "good", "bad", "anna", "left", "rome"}}
    assert Aligned("x").to_original(0, 1) == (0, 1)
