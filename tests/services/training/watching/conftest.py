from tests.services.training.checkpoints.conftest import directory_store

__all__ = ["directory_store"]
