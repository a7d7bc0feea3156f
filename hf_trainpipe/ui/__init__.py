"""A local page over a folder of runs: what each scored, and its curves, live while it trains."""
