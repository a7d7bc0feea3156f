"""Packages: write one, verify it, ask it, score it, push it.

    write      a trained model -> a directory that serves it
    verify     a fresh process reproduces recorded answers
    predict    a file of texts -> a file of answers
    scoring    a split of the recipe's data -> scores with intervals
    hub        a package -> the Hugging Face Hub, whole or not at all

Import the module that is needed: ``from hf_trainpipe.package.write import write``.
"""
