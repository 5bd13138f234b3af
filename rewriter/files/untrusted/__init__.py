"""What a model file may not do: code, and damage."""
