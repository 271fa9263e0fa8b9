"""How good a model is, how two differ, how fast one runs, and what this machine can run."""
