"""Numbers of a run: the ledger (the truth), the console, and the trackers that follow the ledger."""
