"""The live side of the api: OpenAI's routes over the project's deployments, limits of keys, and what keys took.

No request waits for the database here: keys and deployments are read into memory and read anew every few seconds, what
requests took is written once a second.
"""
