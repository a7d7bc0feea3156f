"""Translation from random weights: image captions from English to German (Multi30k) with a small Marian.

    python -m hf_trainpipe train recipes/multi30k.py
    accelerate launch -m hf_trainpipe train recipes/multi30k.py --task.beams 5 --task.length-penalty 1.2
    python -m hf_trainpipe train recipes/multi30k.py:files --data.root ../shared/data/multi30k

Eight million weights and a tokenizer made from both languages: an hour on a few cores, minutes on a GPU. For a model that
has learnt languages before: `model=Pretrained("google-t5/t5-small")`, with `prefix="translate English to German: "`.
Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    HubData,
    Optim,
    ParallelFiles,
    Recipe,
    Scratch,
    Tokens,
    Translation,
    main,
    replace,
)

SIDES = {"layers": 3, "attention_heads": 4, "ffn_dim": 1024}
SIZES = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIDES.items()}


def recipe() -> Recipe:
    return Recipe(
        name="multi30k",
        model=Scratch("marian", config={"d_model": 256, "scale_embedding": True, **SIZES}, vocabulary=8000),
        data=HubData("bentrevett/multi30k", train="train", validation="validation", test="test"),
        task=Translation("en", "de", label_smoothing=0.1, target_max_length=64, max_new_tokens=64),
        tokens=Tokens(max_length=64),
        optim=Optim(peak_lr=1e-3, warmup=0.1, betas=(0.9, 0.98), weight_decay=0.0),
        budget=Budget(epochs=15, examples_per_step=64),
        evaluation=Evaluation(select="bleu"),
    )


def files() -> Recipe:
    sides = ParallelFiles(
        names=("en", "de"),
        train=("train.en.gz", "train.de.gz"),
        validation=("val.en.gz", "val.de.gz"),
        test=("test_2016_flickr.en.gz", "test_2016_flickr.de.gz"),
    )
    return replace(recipe(), name="multi30k-files", data=sides)


if __name__ == "__main__":
    main(recipe)
