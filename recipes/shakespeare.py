"""A small language model from random weights: the characters of Shakespeare's plays, in blocks of 64.

    python -m hf_trainpipe train recipes/shakespeare.py
    python -m hf_trainpipe train recipes/shakespeare.py --tokens.max-length 256 --model.config '{"n_layer": 6, "n_head": 6, "n_embd": 384, "n_positions": 256}'
    python -m hf_trainpipe train recipes/shakespeare.py:files --data.root ../shared/data/tinyshakespeare

Four layers of GPT-2, 0.8 million weights; the sizes and the data are those of nanoGPT's first example, 2,000 steps of 12
blocks take a few minutes on a CPU. The tokenizer is made here too: each character is a token. Ask it to go on with
`hf-trainpipe predict runs/shakespeare "ROMEO:"`. Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import Budget, CausalLM, Evaluation, Files, HubData, Optim, Recipe, Scratch, Tokens, main, replace

SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 64}
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


def recipe() -> Recipe:
    return Recipe(
        name="shakespeare",
        model=Scratch("gpt2", config={**SIZES, **NO_DROPOUT}, tokenizer="characters"),
        data=HubData(  # a play on plays: one long text a split
            "karpathy/tiny_shakespeare",
            revision="refs/convert/parquet",
            train="train",
            validation="validation",
        ),
        task=CausalLM(blocks=True, between="\n\n", max_new_tokens=32),
        tokens=Tokens(max_length=64),
        optim=Optim(
            peak_lr=3e-3, schedule="cosine", warmup=0.05, weight_decay=0.1, betas=(0.9, 0.99), precision="fp32"
        ),
        budget=Budget(epochs=2, max_steps=2000, examples_per_step=12, evaluate_every=500, log_every=100),
        evaluation=Evaluation(select="perplexity"),
    )


def files() -> Recipe:
    speeches = Files(train="input.txt.gz", format="paragraphs", validation=0.1, cut="end")
    return replace(recipe(), name="shakespeare-files", data=speeches)


if __name__ == "__main__":
    main(recipe)
