"""Messages over NATS: `core` passes them on live, `jetstream` stores them."""
