"""Texts that share runs of words: benchmark overlap, and the hashes that it and near-duplicate removal work on."""
