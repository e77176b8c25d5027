"""The rehearsal of a rolling upgrade: planned, carried out on a small cluster that trains, judged, reported."""
