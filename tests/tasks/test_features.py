"""Features of training are features of serving, whatever the texts, the preprocessing and the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_trainpipe import (
    CleanUrls,
    Lowercase,
    NormalizeSpace,
    NormalizeUnicode,
    Preprocessor,
    Pretrained,
    QuestionAnswering,
    Regression,
    SpacySentences,
    SpacyTokens,
    StripHtml,
    TextClassification,
    TokenClassification,
)
from hf_trainpipe.data.encode import content_digest, encode_cached
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.recipe_file import load
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.safety.schema import PackageInfo
from hf_trainpipe.runtime.tasks import Task
from hf_trainpipe.runtime.tasks.about import about
from hf_trainpipe.runtime.text.preprocessing import steps_to_json
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import concatenate
from hf_trainpipe.testing import tiny_model
from tests.tasks.contract import assert_same_features

FOREIGN = Path(__file__).parent / "foreign.py"
STEPS: tuple[Preprocessor, ...] = (
    StripHtml(),
    NormalizeSpace(),
    NormalizeUnicode(),
    Lowercase(),
    CleanUrls(),
    SpacyTokens(pipeline="blank:en"),
    SpacySentences(pipeline="blank:en", keep_first=1),
)
PIECES = ("anna", "Bob's", " ", "  ", "\r\n", "<b>", "</b>", "&amp;", "ﬁ", "e\u0301", "İ", "https://x.org/a", ". ",
          "\ufeff", "👨\u200d👩", "北京", "\u200b", "<!-- x -->")  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join).filter(str.strip)
TOKENS: dict[str, Any] = {"max_length": 16, "overflow": "window", "stride": 4}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(Pretrained(str(tiny_model(tmp_path_factory.mktemp("model")))))


def tasks() -> list[tuple[Task, bool]]:
    """Each with whether its words come as words, where only some steps may run."""
    own = [load(f"{FOREIGN}:{name}")[0].task for name in ("spans", "rewriting")]
    return [
        (TextClassification(), False),
        (Regression(text_pair="other"), False),
        (QuestionAnswering(), False),
        (TokenClassification(splitter="regex-2"), True),
        (TokenClassification(text="text", spans="spans", splitter="regex-2"), False),
        (TokenClassification(text="text", spans="spans", splitter="blank:en"), False),
        *((task, False) for task in own),
    ]


def test_training_and_serving_encode_alike(tokenizer: Any, tmp_path: Path) -> None:
    known = tasks()

    @settings(max_examples=40)
    @given(
        texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
        steps=st.lists(st.sampled_from(STEPS), max_size=3).map(tuple),
        chosen=st.sampled_from(range(len(known))),
    )
    def check(texts: list[tuple[str, str]], steps: tuple[Preprocessor, ...], chosen: int) -> None:
        task, of_words = known[chosen]
        steps = tuple(step for step in steps if step.word_safe) if of_words else steps
        cells = {role: [pair[place % 2] for pair in texts] for place, role in enumerate(task.inputs)}
        columns = {
            task.inputs[role].name: [text.split() for text in found] if of_words else found
            for role, found in cells.items()
        }
        inputs = Rows(Dataset.from_dict(columns), "train").inputs(task)
        encoder = Encoder(tokenizer, steps=steps, **TOKENS)
        learnt = encode_cached(
            inputs, task=task, encoder=encoder, split="train", content=content_digest(inputs), root=tmp_path, place=str,
            say=lambda _: None,
        )  # fmt: skip
        info = PackageInfo(
            name="x", task=task.to_json(), about=about(task), preprocessing=steps_to_json(steps), tokens=TOKENS
        )
        package = Predictor(info=info, task=task, model=None, tokenizer=tokenizer, steps=steps)
        rows = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
        asked = [task.as_input(row) for row in rows]
        assert_same_features(learnt, package.features(asked))
        jobs = [package.open([one]) for one in asked]
        assert package.encode(jobs) == {}
        assert_same_features(learnt, concatenate([job.prepared for job in jobs if job.prepared is not None]))

    for place in range(len(known)):  # nothing of any text is left
        check = example(texts=[("\ufeff", "\ufeff")], steps=(), chosen=place)(check)
    check()


def test_spans_are_learnt_on_the_words_that_are_served(tokenizer: Any) -> None:
    """Once a text's words were cut before its addresses were cleaned, and a package read others."""
    task = TokenClassification(text="text", spans="spans", splitter="regex-2", names=("O", "B-X", "I-X"))
    rows = Rows(
        Dataset.from_dict({"text": ["see https://x.org/a now"], "spans": [[{"start": 4, "end": 19, "label": "X"}]]}),
        "train",
    )
    encoder = Encoder(tokenizer, steps=(CleanUrls(),), **TOKENS)
    features = task.supervise(rows, task.encode(rows.inputs(task), encoder))
    assert features.within is not None
    found = zip(
        features.within["start"].tolist(),
        features.within["end"].tolist(),
        features.within["tags"].tolist(),
        strict=True,
    )
    assert list(found) == [(0, 3, 0), (4, 19, 1), (4, 19, 2), (4, 19, 2), (20, 23, 0)]
