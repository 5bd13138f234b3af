"""Rules on whole layers: those of the literature that take a layer's weights, its bias among them, as one matrix."""
