"""The rolling upgrade, rehearsed: a small cluster goes from one release to another under a real training job."""
