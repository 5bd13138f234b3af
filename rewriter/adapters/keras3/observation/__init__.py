"""What layers see in training and what flows back to them: added up as they are called, and read by an optimizer."""
