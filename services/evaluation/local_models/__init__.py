"""The child process that scores texts with local models: the only part of the evaluation service that imports torch."""
