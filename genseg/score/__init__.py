"""Scores of a trained network, or of maps, on labelled data: `python -m genseg.score --help`."""
