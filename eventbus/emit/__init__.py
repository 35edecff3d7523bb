"""The first step of an event: its topic is checked, middleware is called, and it is encoded and packed."""
