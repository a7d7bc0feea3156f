"""Texts of the training, changed anew in each epoch; evaluations, baselines and packages never see it (docs/augmentation.md).

words     words left out, swapped, replaced by others that mean the same
letters   slips of the keyboard
tokens    tokens hidden behind the mask
wordnet   words that mean the same, from WordNet's files
encoder   what a task encodes the training split of an epoch with
"""
