"""An OpenAI-compatible server that answers by rule: for demos, tests and load. Everything it makes is stamped."""
