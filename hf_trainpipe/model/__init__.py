"""The model and the tokenizer of a recipe: resolved, checked and loaded.

names      folders and Hub ids; the commit that a name means
tokenizer  the tokenizer, held against the model's embedding
lengths    how many tokens one input may hold
fitting    both for a recipe, before its data is read
facts      what a configuration tells without weights
weights    the weights, and what of them is missing or does not fit
proof      what is tried with texts and weights: the longest text, padding, the share of unknown tokens
head       whether the labels of a head that comes with the weights are the task's
"""
