"""What a traced computation does with its variables, read from a graph of TensorFlow or a jaxpr; of no Keras."""
