"""Transports carry messages between clients; each fulfils the same contract."""

from eventbus.transports.contract import Transport

__all__ = ["Transport"]
