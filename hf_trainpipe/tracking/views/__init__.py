"""How the progress of a run is shown: plain lines, a few lines that redraw on a terminal or in a notebook, JSON lines."""
