"""The models that trainings start from: fetched or random, with or without adapters."""
