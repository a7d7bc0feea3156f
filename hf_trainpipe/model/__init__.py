"""Resolve, check and load the model and tokenizer of a recipe.

names      folders and Hub ids; pins a Hub id to a commit
tokenizer  loads the tokenizer, checks it against the model's embedding
marian     fast tokenizers of Marian's models, from their SentencePiece models
lengths    the maximum length of an input in tokens
limits     length and tokenizer of a recipe, before its data is read
facts      parameters and layers, from the configuration alone
weights    loads the weights; refuses missing or mismatched ones
proof      checks with texts and weights: the longest text, padding, the share of unknown tokens
head       keeps, reorders or re-initializes a pretrained head
"""
