"""Products with a gradient by its factors, beside those that NumPy makes of the whole."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from layer_rules_oracle import Soap
from rewriter.adapters.tf_keras import graphs
from rewriter.optimizers.rules.gradient_products import GradientProducts

ROWS, UNITS = 160, 130


@pytest.mark.parametrize("examples", [8, 64, 70])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("axes", [(0, 1), (1,), ()])
def test_they_are_those_of_the_whole(generator, examples, known, axes):
    """For few examples and many, the number known when the graph is made or not; for both axes, one or none."""
    a, b = (generator.standard_normal((examples, size)) for size in (ROWS, UNITS))
    bases = {axis: generator.standard_normal((size, size)) for axis, size in enumerate((ROWS, UNITS)) if axis in axes}

    def products(a, b):
        of = GradientProducts(tf.matmul(a, b, transpose_a=True), tf.float64)
        assert of._factors is not None
        return of.with_itself(axes), of.turned({axis: tf.constant(basis) for axis, basis in bases.items()})

    rows = examples if known else None
    traced = tf.function(products, input_signature=[tf.TensorSpec((rows, size), tf.float64) for size in (ROWS, UNITS)])
    with_itself, turned = traced(a, b)
    whole = a.T @ b
    expected = [whole.T @ whole if axis else whole @ whole.T for axis in axes]
    for found, right in zip(with_itself, expected, strict=True):
        assert np.abs(found - right).max() <= 1e-12 * np.abs(right).max()
    right = bases.get(0, np.eye(ROWS)).T @ whole @ bases.get(1, np.eye(UNITS))
    assert np.abs(turned - right).max() <= 1e-12 * np.abs(right).max()


@pytest.mark.usefixtures("float64")
def test_steps_by_factors_are_those_of_the_paper(generator, monkeypatch):
    """Of a layer that is wider than the batch, in a graph."""
    found, original = [], graphs.factors_of
    monkeypatch.setattr(graphs, "factors_of", lambda gradient: found.append(original(gradient)) or found[-1])
    model = tf_keras.Sequential([layers.Dense(UNITS, input_shape=(ROWS,))])
    rule = rewriter.SOAP(0.01, every=4, epsilon=1e-3)
    model.compile(rule, "mse")
    rewriter.rewrite(model, rule)
    (kernel,) = model.trainable_variables
    weight, oracle = kernel.numpy(), Soap(0.01, every=4, epsilon=1e-3)
    for examples in (16, 16, 80, 16, 16, 16, 16, 16, 16, 16, 16, 16):
        x, y = (generator.standard_normal((examples, size)) for size in (ROWS, UNITS))
        model.train_on_batch(x, y)
        with_ones = np.column_stack([x, np.ones(examples)])
        gradient = with_ones.T @ (with_ones @ weight - y) * (2 / y.size)
        weight = weight - oracle.step(
            gradient, [rule.slot(f"{axis}_basis", kernel).numpy() for axis in ("row", "unit")]
        )
        assert np.abs(kernel.numpy() - weight).max() <= 1e-9
    assert all(each is not None for each in found)
