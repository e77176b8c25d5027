"""Scenarios and versions become the ordered cells of a run. Pure."""
