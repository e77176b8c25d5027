"""Chaos of the harness itself: what must hold whatever a person, a machine or a rank does to it; `make chaos`."""
