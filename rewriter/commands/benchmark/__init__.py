"""What a rewrite costs and gains, measured in turn."""
