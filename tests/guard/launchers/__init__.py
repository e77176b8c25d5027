"""Real launchers under the guard: what each does with ranks of one release, and with 2.1.2 and 2.2.2 on two nodes."""
