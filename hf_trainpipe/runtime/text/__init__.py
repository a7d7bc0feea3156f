"""Texts before they are tokens: preprocessing with alignment to the original, words."""
