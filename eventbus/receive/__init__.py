"""The fifth step of an event: the consumer thread receives messages, unpacks them and dispatches the events."""
