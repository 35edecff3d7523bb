"""What the tests of services and of transports need."""
