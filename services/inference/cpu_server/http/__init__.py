"""The HTTP side of the CPU server: TGI's routes (as of 3.3.7) on an `Engine`, and `/score` for reward models."""
