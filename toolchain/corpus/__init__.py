"""Labelled reviews for training and evaluation: read, split, checked."""
