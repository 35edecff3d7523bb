"""Transports, which carry messages between clients, and the contract that each of them fulfils."""

from eventbus.transports.contract import Transport

__all__ = ["Transport"]
