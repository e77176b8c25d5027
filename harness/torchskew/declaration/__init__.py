"""torchskew.toml and the baseline become frozen records, or all their problems at once. Pure."""
