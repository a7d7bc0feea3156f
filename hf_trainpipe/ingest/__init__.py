"""Raw rows to shards: cleaned, each text once, cut into splits; the same rows in the same order every time."""
