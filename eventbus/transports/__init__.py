"""Transports carry messages between clients; each fulfils the same contract."""

from eventbus.transports.contract import KnowsSubscribers, Transport

__all__ = ["KnowsSubscribers", "Transport"]
