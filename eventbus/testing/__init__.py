"""Tools for the tests of services and of transports."""
