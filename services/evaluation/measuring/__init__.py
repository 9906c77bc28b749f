"""The row stage `measure`: what local models, or a scorer over the network, say of every answer."""
