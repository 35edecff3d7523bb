"""The first step of an event: its topic is admitted, middleware is called, and it is encoded and packed."""
