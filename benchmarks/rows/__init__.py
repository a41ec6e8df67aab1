"""The rows of `make bench`: a module each."""
