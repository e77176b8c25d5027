"""Versions as local virtual environments: provisioned by uv, run as processes on loopback."""
