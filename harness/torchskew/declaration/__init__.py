"""torchskew.toml and the baseline beside it become frozen records, or every problem at once; pure."""
