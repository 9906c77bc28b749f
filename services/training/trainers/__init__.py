"""One trainer per method, on trl's, all of them without padding."""
