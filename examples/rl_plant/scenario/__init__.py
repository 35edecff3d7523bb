"""The command that runs all three: processes, their course, and the report."""
