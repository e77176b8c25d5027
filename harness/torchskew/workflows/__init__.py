"""The uses of the engine, each a tuple of steps: matrix, gate, rehearsal, survey and suite."""
