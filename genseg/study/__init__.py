"""Studies: what is compared written down first, then run and reported: `python -m genseg.study STUDY.py --out=DIR`."""
