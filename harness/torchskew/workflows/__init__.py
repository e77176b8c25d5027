"""The uses of the engine, each a tuple of steps: matrix, check, gate, rehearsal, survey and suite."""
