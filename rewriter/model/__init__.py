"""What a model is made of, layer by layer, plain or merged."""
