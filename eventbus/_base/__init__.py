"""Small tools that know nothing of events. This file imports nothing, which keeps the proxy process small."""
