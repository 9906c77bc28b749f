"""Starts worker containers where steps wait for them; workers leave by themselves."""
