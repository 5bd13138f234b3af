"""Custom layers whose call is a function, and the pairs that are found in models."""

from tf_keras import Sequential, layers

from rewriter.model.walk import locate_layers
from rewriter.planning.pair_discovery import discover


def found_pairs(model, discovery):
    return {
        found.paths[0]: discovery.pairs[id(found.layer)]
        for found in locate_layers(model)
        if id(found.layer) in discovery.pairs
    }


class Custom(layers.Layer):
    """A layer whose weights and call are given: ``shapes`` by name, and ``call`` of the layer and its input."""

    def __init__(self, shapes, call, **options):
        super().__init__(**options)
        self.shapes, self.own_call = shapes, call

    def build(self, input_shape):
        for name, shape in self.shapes.items():
            setattr(self, name, self.add_weight(name, shape))
        super().build(input_shape)

    def call(self, inputs):
        return self.own_call(self, inputs)


def found_in(shapes, call, fan_in=4):
    """The pairs and remarks of one custom layer."""
    model = Sequential([layers.InputLayer((fan_in,)), Custom(shapes, call, name="custom")])
    discovery = discover(model)
    pairs = found_pairs(model, discovery).get("custom", ())
    return [pair.attributes for pair in pairs], {remark.place: remark.text for remark in discovery.remarks}


SQUARE = {"w": (4, 4), "b": (4,)}
