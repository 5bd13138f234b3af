"""What the layers of a model see in training and what flows back to them, told to whoever asks for it."""
