"""Decides what is to be done next: makes steps, rings doorbells, notices the dead, sums up."""
