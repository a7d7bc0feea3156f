"""Packages: write, verify, predict, score.

    write      a trained model -> a package
    verify     a fresh process reproduces recorded logits
    predict    a file of texts -> a file of answers
    scoring    a split of the recipe's data -> scores with intervals

Import the module that is needed: ``from hf_trainpipe.package.write import write``.
"""
