"""Everything that is asked of one Keras, behind one interface."""
