"""The wire format: frames, numbers, headers, compression and the codec, as pure functions and objects without sockets."""
