"""From new labels to a new champion: ``retrain``, ``promote``, ``rollback``.

alias     who holds an alias and why: a log that grows by compare-and-swap, in any store
folder_store, mlflow_store, hub_store    where such a log and its packages lie
merge     new labels held against the test split and the training rows; added_rows of ``data`` reads what is left
retrain   an ordinary run over training rows and new labels
evidence  what two packages answer on the same rows
gate      whether the challenger is shown to be no worse; floors for slices and for calibration
promote   the gate, counted, and then the swap
"""
