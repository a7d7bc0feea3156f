"""Simple models to hold a fine-tuned one against: no gradient of the network, seconds of a core."""
