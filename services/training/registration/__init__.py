"""What a finished training leaves for others: weights as safetensors, a record of where they come from, a model card."""
