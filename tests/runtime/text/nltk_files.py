"""Small data of NLTK in its own formats, made by its own trainers and written out by hand where it has none."""

from __future__ import annotations

import json
from pathlib import Path

STOPWORDS = ("a", "and", "don't", "it", "not", "of", "the", "was", "with")
STORY = (
    "Dr. Smith met Mr. Jones at St. Mary. They talked of Prof. Brown. It was a fine day. Mr. Brown and Dr. Jones went on. "
    "The story of Prof. Smith was kind. Dr. Brown was not there. "
)
TAGGED = (
    (("the", "DT"), ("mice", "NNS"), ("were", "VBD"), ("running", "VBG"), (".", ".")),
    (("anna", "NNP"), ("sees", "VBZ"), ("better", "JJR"), ("days", "NNS"), (".", ".")),
    (("a", "DT"), ("dog", "NN"), ("was", "VBD"), ("happier", "JJR"), ("soon", "RB"), (".", ".")),
)
WORDNET = {
    "noun": (("day", "dog", "mouse", "running", "story"), {"mice": "mouse"}),
    "verb": (("be", "run", "see", "tell"), {"were": "be", "was": "be", "running": "run"}),
    "adj": (("good", "happy"), {"better": "good", "happier": "happy"}),
    "adv": (("soon",), {}),
}


def write_nltk_data(folder: Path) -> Path:
    """Write ``punkt_tab``, ``stopwords``, ``wordnet`` and a tagger below ``folder``, which is returned."""
    from nltk.tabdata import TabEncoder
    from nltk.tag.perceptron import PerceptronTagger
    from nltk.tokenize.punkt import PunktTrainer

    trainer = PunktTrainer(STORY * 4)
    parameters, encoder = trainer.get_params(), TabEncoder()
    punkt = folder / "tokenizers" / "punkt_tab" / "english"
    punkt.mkdir(parents=True)
    for name, content in (
        ("abbrev_types.txt", encoder.list2txt(sorted(parameters.abbrev_types))),
        ("sent_starters.txt", encoder.list2txt(sorted(parameters.sent_starters))),
        ("collocations.tab", encoder.tups2tab(sorted(parameters.collocations))),
        ("ortho_context.tab", encoder.ivdict2tab(parameters.ortho_context)),
    ):
        (punkt / name).write_text(content)
    stopwords = folder / "corpora" / "stopwords"
    stopwords.mkdir(parents=True)
    (stopwords / "english").write_text("\n".join(STOPWORDS) + "\n")
    wordnet = folder / "corpora" / "wordnet"
    wordnet.mkdir()
    for name, (lemmas, exceptions) in WORDNET.items():
        letter = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}[name]
        synset = {lemma: 8 * number for number, lemma in enumerate(lemmas, 1)}
        index = "".join(f"{lemma} {letter} 1 0 1 0 {synset[lemma]:08d}  \n" for lemma in lemmas)
        (wordnet / f"index.{name}").write_text("  1 a licence\n" + index)
        (wordnet / f"{name}.exc").write_text("".join(f"{word} {form}\n" for word, form in exceptions.items()))
    (wordnet / "LICENSE").write_text("a licence\n")
    tagger = PerceptronTagger(load=False)
    tagger.train([list(sentence) for sentence in TAGGED] * 3, nr_iter=5)
    place = folder / "taggers" / "averaged_perceptron_tagger_eng"
    place.mkdir(parents=True)
    weights, tagdict, classes = tagger.encode_json_obj()
    for name, value in (("weights", weights), ("tagdict", tagdict), ("classes", sorted(classes))):
        (place / f"{place.name}.{name}.json").write_text(json.dumps(value))
    return folder
