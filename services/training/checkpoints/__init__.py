"""What a training leaves in the store while it runs, so that another worker goes on where this one ended."""
