"""flock: averages gradients over ranks, keeps states in files, and trains with both."""
