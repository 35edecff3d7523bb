"""State, statistics, health and hooks: the other packages report to these."""
