"""Preferences (UltraFeedback): SmolLM2-135M learns which of two answers people want, by DPO, from its instructions-tuned weights.

    python -m hf_trainpipe train recipes/dpo.py
    accelerate launch -m hf_trainpipe train recipes/dpo.py --task.beta 0.05
    python -m hf_trainpipe train recipes/dpo.py --task.loss orpo --optim.peak-lr 8e-6
    python -m hf_trainpipe train recipes/dpo.py --model.lora.rank 16 --optim.peak-lr 2e-5
    python -m hf_trainpipe train recipes/dpo.py:files --data.root FOLDER --model.name FOLDER

Whole conversations are read from `chosen` and `rejected`; with texts, `--task.prompt COLUMN` names the one that asks. Answers that
are good or bad by themselves need `--task.loss kto` with `--task.completion` and `--task.label`. Ask the result in Python:
`hf_trainpipe.load("runs/dpo").predict("Name three colours.")`. Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    Optim,
    PreferenceTuning,
    Pretrained,
    Recipe,
    Tokens,
    main,
    replace,
)


def recipe() -> Recipe:
    return Recipe(
        name="dpo",
        model=Pretrained("HuggingFaceTB/SmolLM2-135M-Instruct"),
        data=HubData(
            "trl-lib/ultrafeedback_binarized", train="train", validation="test", columns=("chosen", "rejected")
        ),
        task=PreferenceTuning(prompt=None, beta=0.1, max_new_tokens=128),
        tokens=Tokens(max_length=1024, overflow="drop"),
        optim=Optim(peak_lr=1e-6, schedule="cosine", warmup=0.1),
        budget=Budget(epochs=1, examples_per_step=32),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    """Rows of `{"prompt", "chosen", "rejected"}`, as texts; the model may be any folder with a chat template."""
    return replace(
        recipe(),
        name="dpo-files",
        data=Files(train="preferences.jsonl", validation=0.05),
        task=PreferenceTuning(max_new_tokens=128),
    )


if __name__ == "__main__":
    main(recipe)
