"""The guard: what a training job installs so that a mixed group fails clearly; imports nothing of ours."""
