"""Answers that somebody else made: read from a file and matched with the questions."""
