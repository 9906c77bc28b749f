"""A model server on transformers with TGI's HTTP contract, for machines without a GPU (it takes one where there is one)."""
