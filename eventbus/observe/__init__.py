"""State, statistics, health and hooks: every other part reports to these."""
