"""Figures over many answers: calibration, drift, accuracy by class, thresholds."""
