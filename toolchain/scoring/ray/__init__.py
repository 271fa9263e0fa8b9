"""The same on the workers of a Ray cluster, byte for byte."""
