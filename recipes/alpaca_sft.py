"""Instructions and answers (Alpaca): SmolLM2-135M learns to answer as they do; the loss is on answers alone.

    python -m hf_trainpipe train recipes/alpaca_sft.py
    accelerate launch -m hf_trainpipe train recipes/alpaca_sft.py --optim.peak-lr 1e-4
    python -m hf_trainpipe train recipes/alpaca_sft.py --model.lora.rank 16 --optim.peak-lr 5e-4
    python -m hf_trainpipe train recipes/alpaca_sft.py:files --data.root ../shared/data/alpaca --model.name FOLDER

Conversations in one column need `--task.messages COLUMN`. Ask the result with
`hf_trainpipe.load("runs/alpaca_sft").predict({"messages": [{"role": "user", "content": "Name three colours."}]}, max_tokens=50)`, or
`hf-trainpipe serve runs/alpaca_sft/package`. Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    InstructionTuning,
    Optim,
    Pretrained,
    Recipe,
    Tokens,
    main,
    replace,
)


def recipe() -> Recipe:
    return Recipe(
        name="alpaca_sft",
        model=Pretrained("HuggingFaceTB/SmolLM2-135M-Instruct"),
        data=HubData("tatsu-lab/alpaca", train="train", validation=0.02, columns=("instruction", "input", "output")),
        task=InstructionTuning(input="input", max_new_tokens=128),
        tokens=Tokens(max_length=1024, overflow="drop"),
        optim=Optim(peak_lr=5e-5, schedule="cosine", warmup=0.05),
        budget=Budget(epochs=1, examples_per_step=16),
        evaluation=Evaluation(select="perplexity"),
    )


def files() -> Recipe:
    """The first 5,000 rows of the data set's own file; the model may be any folder with a chat template."""
    return replace(
        recipe(), name="alpaca_sft-files", data=Files(train="alpaca_data.first5000.json.gz", validation=0.02)
    )


if __name__ == "__main__":
    main(recipe)
