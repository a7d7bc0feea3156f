"""A baseline for the quickstart's messages: TF-IDF of one and two words, logistic regression.

    python scripts/bench/quickstart_baseline.py

MiniLM's scores on the same splits are printed by ./scripts/quickstart.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from hf_trainpipe.quickstart import SupportMessages

    messages = SupportMessages().messages()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = words.fit_transform([text for text, _ in messages["train"]])
    model = LogisticRegression(C=10, max_iter=1000).fit(features, [intent for _, intent in messages["train"]])
    for split in ("validation", "test"):
        texts, intents = zip(*messages[split], strict=True)
        print(f"{split:<10}  accuracy {100 * model.score(words.transform(texts), intents):.1f}  n {len(texts)}")


if __name__ == "__main__":
    main()
