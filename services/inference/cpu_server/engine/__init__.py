"""Continuous batching on transformers: requests join and leave the batch between two tokens."""
