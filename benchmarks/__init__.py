"""What torchskew states about speed and memory, measured: ratios within one run. `make bench` runs all of it."""
