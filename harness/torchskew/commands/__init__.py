"""One file a command: arguments become options, options a workflow, its result an exit code."""
