"""Runs a session's cells over many machines: Ray places a worker on each node, the driver schedules and judges."""
