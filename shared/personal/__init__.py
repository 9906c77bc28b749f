"""From what a person prefers to a system message, and from what a person chose to what they prefer."""
