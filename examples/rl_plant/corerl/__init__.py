"""The agent: what a service with a loop and two event families looks like."""
