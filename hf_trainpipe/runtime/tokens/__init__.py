"""Texts and words into flat arrays of token ids, and the arithmetic of such arrays."""
