"""Centered SGD on a plain Keras model: gradients by a tape, outside of any graph; means and steps in NumPy."""

import numpy as np
import tensorflow as tf


class ByHand:
    """The means of what some layers of a plain model see, and steps of SGD in centered coordinates.

    Args:
        model: The model, which is trained.
        kernels: For each layer to center, what turns its mean into what is beside its kernel, of the kernel's rank, and
            the name of the kernel.
        axes: For each layer the axes of its input that are positions.
        rate: The learning rate.
        decay: How much of what was seen before still counts.
    """

    def __init__(self, model, layers, rate, decay=0.99):
        self.model, self.rate, self.decay, self.layers = model, rate, decay, layers
        self.seen = {layer: [0.0, 0.0] for layer in layers}
        for layer in layers:
            self._listen(layer)

    def _listen(self, layer):
        call, (positions, *_) = layer.call, self.layers[layer]

        def listening(inputs, *args, **kwargs):
            values = np.asarray(inputs, np.float64)
            mask = getattr(inputs, "_keras_mask", None)
            weights = np.ones(values.shape[: len(positions)]) if mask is None else np.asarray(mask, np.float64)
            weights = np.broadcast_to(
                weights.reshape(weights.shape + (1,) * (len(positions) - weights.ndim)),
                [values.shape[axis] for axis in positions],
            )
            spread = np.expand_dims(weights, [axis for axis in range(values.ndim) if axis not in positions])
            if self.model_is_training:
                self.seen[layer][0] = self.seen[layer][0] + (values * spread).sum(axis=tuple(positions))
                self.seen[layer][1] = self.seen[layer][1] + weights.sum()
            return call(inputs, *args, **kwargs)

        layer.call = listening

    model_is_training = True

    def gradients(self, x, y, penalty=lambda _: 0.0):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            error = (self.model(x, training=True) - y) ** 2
            loss = tf.reduce_mean(error) + sum(self.model.losses) + penalty(self.model)
        return [np.asarray(each) for each in tape.gradient(loss, variables)]

    def step(self, gradients, change=lambda gradients: gradients):
        """Take a step by true gradients; ``change`` is what clipping does to the changed ones."""
        variables = self.model.trainable_variables
        by_id = {id(variable): gradient for variable, gradient in zip(variables, gradients, strict=True)}
        means = {}
        for layer, (_, beside, name) in self.layers.items():
            total, count = self.seen[layer]
            means[layer] = beside(total / count)
            kernel, bias = getattr(layer, name), layer.bias
            by_id[id(kernel)] = by_id[id(kernel)] - means[layer] * self.to_kernel(layer, by_id[id(bias)])
        changed = change([by_id[id(variable)] for variable in variables])
        steps = {id(variable): -self.rate * each for variable, each in zip(variables, changed, strict=True)}
        for layer, (_, _, name) in self.layers.items():
            kernel, bias = getattr(layer, name), layer.bias
            moved = means[layer] * steps[id(kernel)]
            steps[id(bias)] = steps[id(bias)] - self._to_bias(layer, moved)
            self.seen[layer] = [self.decay * each for each in self.seen[layer]]
        for variable in variables:
            variable.assign(variable.numpy() + steps[id(variable)])

    @staticmethod
    def to_kernel(layer, bias):
        """A bias, or its gradient, beside the kernel: its units are the last axes, of all but two kinds of layers."""
        if "Transpose" in type(layer).__name__:
            return bias[:, np.newaxis]
        if "Depthwise" in type(layer).__name__:
            return bias.reshape(layer.depthwise_kernel.shape[-2:])
        return bias

    @staticmethod
    def _to_bias(layer, moved):
        if "Transpose" in type(layer).__name__:
            return moved.sum(axis=(*range(moved.ndim - 2), -1))
        kept = 2 if "Depthwise" in type(layer).__name__ else layer.bias.shape.rank
        summed = moved.sum(axis=tuple(range(moved.ndim - kept)))
        return summed.reshape(layer.bias.shape)
