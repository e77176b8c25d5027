"""The gate: whether a candidate still works with the releases people run."""
