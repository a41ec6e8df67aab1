"""Data sets by name: which files each is made of, its classes, splits and protocols."""
