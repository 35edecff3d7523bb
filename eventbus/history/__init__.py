"""Keeping what has passed: a historian stores messages as they are and answers queries over the bus.

`store` keeps them within bounds, `server` answers; neither has a socket, and the proxy's process imports no more than these.
`historian` runs a server over a transport; `reader` asks.
"""
