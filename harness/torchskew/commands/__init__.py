"""One file per command: from arguments to a workflow to the exit code."""
