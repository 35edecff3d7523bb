"""The last step of an event: handlers, what marks them, and what is called around them."""
