"""One session runs cells: agents, rank groups, schedule, ports, progress and interrupts."""
