"""Where a model is weak, and whether its answers hold under small changes of the input."""
