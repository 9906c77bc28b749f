"""Questions as others lay them out: benchmarks in their own columns, prompts under system messages, plain instructions."""
