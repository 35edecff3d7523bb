"""The command that runs all three: processes, what is heard of them, and the report."""
