"""Summarisation: dialogues in a sentence or two (DialogSum) with T5.

    python -m hf_trainpipe train recipes/dialogsum.py
    python -m hf_trainpipe train recipes/dialogsum.py --model.name facebook/bart-base --task.prefix '' --optim.peak-lr 5e-5
    python -m hf_trainpipe train recipes/dialogsum.py:files --data.root ../shared/data/dialogsum

The files' test split has three summaries for each dialogue: all are right. `files` begins with random weights, so that it
needs no network: its summaries are those of a beginner. Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Optim,
    Pretrained,
    Recipe,
    Scratch,
    Summarization,
    Tokens,
    main,
    replace,
)


def recipe() -> Recipe:
    return Recipe(
        name="dialogsum",
        model=Pretrained("google-t5/t5-small"),
        data=HubData("knkarthick/dialogsum", train="train", validation="validation", test="test"),
        task=Summarization(
            "dialogue", "summary", prefix="summarize: ", target_max_length=96, max_new_tokens=96, beams=4
        ),
        tokens=Tokens(max_length=512),
        optim=Optim(peak_lr=1e-3, warmup=0.05, weight_decay=0.01),
        budget=Budget(epochs=3, examples_per_step=32),
        evaluation=Evaluation(select="rougeL"),
    )


def files() -> Recipe:
    dialogues = Files(
        train="dialogsum.train.jsonl.gz",
        validation="dialogsum.dev.jsonl.gz",
        test="dialogsum.test.jsonl.gz",
        lists={"summary": ("summary1", "summary2", "summary3")},
        columns=("dialogue", "summary"),
    )
    small = Scratch("t5", config={"d_model": 256, "d_ff": 1024, "num_layers": 3, "num_heads": 4}, vocabulary=8000)
    return replace(recipe(), name="dialogsum-files", model=small, data=dialogues)


if __name__ == "__main__":
    main(recipe)
