"""The shells: what carries messages. Each fulfils the contract in `eventbus.transport`."""
