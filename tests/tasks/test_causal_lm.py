"""Language models: documents alone or in blocks, every token predicted once, from random weights too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import hf_trainpipe as h
from hf_trainpipe import CausalLM, RecipeError, Scratch
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.model.scratch import made_from_scratch
from hf_trainpipe.runtime.model.next_token import IGNORED
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.testing import tiny_causal_model, tiny_rows

TEXTS = [row["text"] for row in tiny_rows(40, seed=3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path):
    return AutoTokenizer.from_pretrained(folder)


def supervised(tokenizer, task: CausalLM, texts: list[str], **options: object) -> Features:
    encoder = Encoder(tokenizer, **{"max_length": 16, "overflow": "window", "stride": 0, **options})
    rows = Rows(Dataset.from_dict({"text": texts}), "train", encoder=encoder, is_training=True)
    return task.supervise(rows, task.encode(rows.inputs(task), encoder))


def pairs(features: Features) -> list[tuple[int, int]]:
    """Each predicted token behind the one before it."""
    stream = features.input
    return [
        (a, b) for a, b in zip(stream["input_ids"].tolist(), stream["labels"].tolist(), strict=True) if b != IGNORED
    ]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab cfilm", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=5),
    size=st.integers(2, 20),
    stride=st.integers(0, 5),
)
def test_every_token_is_predicted_once_whatever_windows_overlap(tokenizer, texts, size, stride) -> None:
    whole = supervised(tokenizer, CausalLM(), texts, max_length=1000)
    cut = supervised(tokenizer, CausalLM(), texts, max_length=size, stride=min(stride, size - 1))
    assert pairs(cut) == pairs(whole)
    assert cut.input.lengths.max() <= size
    assert cut.of_examples["bytes"].tolist() == pytest.approx([len(text.encode()) for text in texts])
    assert len(pairs(whole)) == sum(len(tokenizer(text, add_special_tokens=False).input_ids) + 1 for text in texts)
    assert [one for one in pairs(whole) if one[1] == tokenizer.eos_token_id] != []


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab cfilm", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=6),
    size=st.integers(1, 20),
    between=st.sampled_from([None, "\n", " and "]),
)
def test_blocks_are_all_of_the_text_in_its_order(tokenizer, texts, size, between) -> None:
    found = supervised(tokenizer, CausalLM(blocks=True, between=between), texts, max_length=size)
    ids = found.input["input_ids"].tolist()
    lengths = found.input.lengths
    assert (lengths[:-1] == size).all()
    assert 0 < lengths[-1] <= size
    assert found.num_examples == len(lengths)
    labels = found.input["labels"].tolist()
    if between is None:
        assert len(pairs(found)) == len(ids)  # with the end of each document
        assert labels.count(tokenizer.eos_token_id) == len(texts)
        total = sum(len(text.encode()) for text in texts)
    else:
        plain = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        glue = tokenizer(between, add_special_tokens=False).input_ids
        assert ids == [one for text in plain[:-1] for one in (*text, *glue)] + plain[-1]
        assert labels == [*ids[1:], IGNORED]
        total = len(between.join(texts).encode())
    assert found.of_examples["bytes"].sum() <= total + 1e-6
    assert found.of_examples["bytes"].sum() > total * (1 - 1 / len(texts)) - 30


def test_long_documents_follow_the_policy_and_are_counted(tokenizer) -> None:
    texts = [" a film", " it was a very warm day and it was kind"]
    cut = supervised(tokenizer, CausalLM(), texts, max_length=5, overflow="truncate")
    assert cut.input.lengths.tolist() == [3, 5]
    assert (cut.overflow.over_length, cut.overflow.tokens_lost, cut.overflow.dropped) == (1, 6, 0)
    dropped = supervised(tokenizer, CausalLM(), texts, max_length=5, overflow="drop")
    assert (dropped.windows.tolist(), dropped.overflow.dropped) == ([1, 0], 1)
    with pytest.raises(Exception, match=r"Example 1 has 11 tokens; tokens.max_length is 5"):
        supervised(tokenizer, CausalLM(), texts, max_length=5, overflow="error")


def test_a_document_cannot_write_the_token_that_ends_one(tokenizer) -> None:
    found = supervised(tokenizer, CausalLM(), ["a </s> b"])
    assert found.input["labels"].tolist().count(tokenizer.eos_token_id) == 1


def test_long_prompts_keep_their_end_and_leave_room(tokenizer) -> None:
    encoder = Encoder(tokenizer, max_length=16)
    task = CausalLM(max_new_tokens=50)
    whole = task.encode({"text": ["very " * 30 + "warm", "a film"]}, encoder)
    asked = task.asked(whole, encoder, {"max_tokens": 50})
    assert asked.input.lengths.tolist() == [8, 3]
    assert asked.asked["max_new_tokens"].tolist() == [8, 13]
    assert tokenizer.decode(asked.input["input_ids"][:8]).endswith("very warm")


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_a_tokenizer_trained_here_gives_back_its_texts(kind: str, tmp_path: Path) -> None:
    recipe = scratch_recipe(
        Scratch("gpt2", config={"n_layer": 1, "n_head": 2, "n_embd": 16}, tokenizer=kind, vocabulary=300)
    )
    made = made_from_scratch(recipe, tmp_path / "made")
    tokenizer = AutoTokenizer.from_pretrained(made.name)
    for text in TEXTS[:10]:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer)
    assert (config["eos_token_id"], config["n_layer"]) == (tokenizer.eos_token_id, 1)
    again = made_from_scratch(recipe, tmp_path / "again")
    weights = [Path(one.name, "model.safetensors").read_bytes() for one in (made, again)]
    assert weights[0] == weights[1]
    other = made_from_scratch(replace(recipe, seed=18), tmp_path / "other")
    assert Path(other.name, "model.safetensors").read_bytes() != weights[0]


def scratch_recipe(model: Scratch) -> h.Recipe:
    frame = pandas.DataFrame({"text": TEXTS})
    return h.Recipe(
        name="scratch",
        model=model,
        data=h.Frame(train=frame, validation=frame.tail(8)),
        task=CausalLM(blocks=True, between="\n", max_new_tokens=4),
        tokens=h.Tokens(max_length=32),
        optim=h.Optim(peak_lr=1e-2, precision="fp32"),
        budget=h.Budget(max_steps=4, examples_per_step=8, save_every=2),
        evaluation=h.Evaluation(resamples=20),
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Scratch("gpt5"), "expected an architecture of transformers"),
        (Scratch("gpt2", config={"n_layers": 2}), "gpt2 has no field 'n_layers'"),
        (Scratch("vit", tokenizer="characters"), "cannot have a vit"),
    ],
)
def test_what_is_no_configuration_is_refused(model: Scratch, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=expected) as refused:
        made_from_scratch(scratch_recipe(model), tmp_path / "made")
    assert refused.value.fix
    assert not list(tmp_path.iterdir())


def test_a_model_from_random_weights_learns_resumes_and_says_where_it_comes_from(tmp_path: Path) -> None:
    config = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 32, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    recipe = scratch_recipe(Scratch("gpt2", config=config, tokenizer="characters"))
    result = h.execute(recipe, run_dir=tmp_path / "run")
    scores = result.scores["validation"]
    assert scores["perplexity"]["low"] < scores["perplexity"]["value"] < scores["perplexity"]["high"] < 60
    manifest = json.loads((result.package / "trainpipe.json").read_text())
    assert manifest["recipe"]["model"]["kind"] == "Scratch"
    assert str(tmp_path) not in json.dumps(manifest)
    assert "fine-tuned from" not in (result.package / "README.md").read_text()
    package = h.load(tmp_path / "run")
    greedy = package.predict(["it was", "the film of"])
    assert greedy == [package.predict([one])[0] for one in ("it was", "the film of")]
    drawn = [package.predict(texts, temperature=1.5, seed=seed, max_tokens=12) for texts, seed in
             ((["it was"], 1), (["a", "it was", "very warm and"], 1), (["it was"], 2))]  # fmt: skip
    assert drawn[0][0] == drawn[1][1]
    assert drawn[0] != drawn[2]
    stopped = package.predict("it was", max_tokens=12, temperature=1.5, seed=1, stop=drawn[0][0]["generated_text"][3])
    assert stopped["generated_text"] == drawn[0][0]["generated_text"][:3].split(drawn[0][0]["generated_text"][3])[0]
    assert stopped["finish_reason"] == "stop"
    with pytest.raises(Exception, match=r"parameters\.temperature: expected a number of 0 or more"):
        package.predict("a", temperature=-1)


def test_perplexity_and_bits_follow_from_sums_over_examples() -> None:
    from hf_trainpipe import metrics
    from hf_trainpipe.engine.evaluation import judge
    from hf_trainpipe.runtime.model.outputs import Outputs

    nats, tokens, sizes = np.array([2.0, 6.0, 1.0]), np.array([2, 3, 5]), np.array([4.0, 8.0, 2.0])
    features = Features({}, np.arange(3, dtype=np.int32), 3, of_examples={"bytes": sizes})
    predictions = judge(Outputs(np.arange(3), {"nats": nats, "tokens": tokens}), features, CausalLM())
    found = metrics.score(predictions, ["perplexity", "bits_per_byte"])
    assert found["perplexity"] == pytest.approx(np.exp(9 / 10))
    assert found["bits_per_byte"] == pytest.approx(9 / 14 / np.log(2))


def test_the_text_between_is_for_blocks() -> None:
    with pytest.raises(RecipeError, match="expected None where documents stand alone"):
        CausalLM(between="\n")
