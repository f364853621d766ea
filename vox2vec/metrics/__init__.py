"""Figures of merit; NaN where there is nothing to measure."""
