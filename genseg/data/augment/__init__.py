"""Resizing, cropping and all that training does to an image at random."""
