"""Small tools that know nothing of events. This file imports nothing, so that the proxy process stays small."""
