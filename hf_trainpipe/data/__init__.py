"""From files, the Hub or a frame to checked arrays that a model can learn from."""
