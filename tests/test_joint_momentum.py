"""Joint momentum against an oracle that shares no code with it: NumPy in float64, which stores the full V."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from conftest import bits
from rewriter import JointMomentum, Layout, Part

STEPS = 200
# A learning rate and a momentum that float32 holds exactly, so that oracle and subject start from the same numbers.
RATE, MOMENTUM = 0.0625, 0.875
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def oracle(value, gradients, axis=None):
    """V <- G + mu * mean(V) along an axis (V itself for None); W <- W - eta * V."""
    value, velocity = value.astype(np.float64), np.zeros(value.shape)
    for gradient in gradients:
        carried = velocity if axis is None else velocity.mean(axis=axis, keepdims=True)
        velocity = gradient.astype(np.float64) + MOMENTUM * carried
        value = value - RATE * velocity
    return value


def relative_error(value, expected):
    return np.abs(np.asarray(value, np.float64) - expected).max() / np.abs(expected).max()


def augmented(value, name="d"):
    fan_in, units = value.shape[0] - 1, value.shape[1]
    variable = tf.Variable(value, name=f"{name}/augmented_kernel")
    Layout((Part("kernel", f"{name}/kernel", (fan_in, units), 0), Part("bias", f"{name}/bias", (units,), 1))).attach(
        variable
    )
    return variable


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("average", "axis"), [("incoming", 0), ("outgoing", 1)])
def test_equals_the_full_rule(generator, average, axis, dtype, graph):
    """With and without a merged variable, 200 steps end where the rule that stores V ends."""
    values = [generator.standard_normal(shape).astype(dtype) for shape in ((7, 4), (5, 3), (2, 1))]
    gradients = [[generator.standard_normal(value.shape).astype(dtype) for value in values] for _ in range(STEPS)]
    variables = [augmented(values[0]), tf.Variable(values[1]), augmented(values[2], "e")]
    optimizer = JointMomentum(RATE, MOMENTUM, average=average)
    optimizer.build(variables)

    def apply(*step):
        optimizer.apply_gradients(zip(step, variables, strict=True))

    apply = tf.function(apply) if graph else apply
    for step in gradients:
        apply(*map(tf.constant, step))
    for index, rule_axis in enumerate((axis, None, axis)):
        expected = oracle(values[index], [step[index] for step in gradients], rule_axis)
        assert relative_error(variables[index].numpy(), expected) <= TOLERANCE[dtype]
    assert int(optimizer.iterations) == STEPS


@pytest.mark.parametrize(("average", "numbers"), [("incoming", 4), ("outgoing", 7)])
def test_state_is_compact(average, numbers):
    """An augmented kernel costs one number a unit (or a row); any other variable its own size."""
    optimizer = JointMomentum(average=average)
    optimizer.build([augmented(np.zeros((7, 4))), tf.Variable(tf.zeros((3, 2)))])
    assert [tuple(slot.shape) for slot in optimizer.momentums] == [(numbers,), (3, 2)]
    assert optimizer.momentums[0].dtype == tf.float64


def test_weight_decay_leaves_the_bias_row_alone(generator):
    """Decoupled decay, times the learning rate, shrinks the kernel rows and not the bias row."""
    value = generator.standard_normal((5, 3))
    merged, plain = augmented(value), tf.Variable(value)
    optimizer = JointMomentum(RATE, MOMENTUM, weight_decay=0.5)
    optimizer.apply_gradients([(tf.zeros_like(value), merged), (tf.zeros_like(value), plain)])
    shrunk = value * (1 - RATE * 0.5)
    assert relative_error(merged.numpy()[:-1], shrunk[:-1]) <= 1e-12
    assert bits(merged.numpy()[-1]) == bits(value[-1])
    assert relative_error(plain.numpy(), shrunk) <= 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"), ({"average": "both"}, "must be one of 'incoming'")],
)
def test_settings_are_checked(settings, message):
    """An illegal setting is refused with the legal ones."""
    with pytest.raises(ValueError, match=message):
        JointMomentum(**settings)


def test_config_goes_there_and_back():
    """from_config(get_config()) has the same settings, a schedule included, and so has what Keras deserializes."""
    schedule = tf_keras.optimizers.schedules.CosineDecay(0.5, 100)
    optimizer = JointMomentum(schedule, 0.25, "outgoing", weight_decay=0.5, clipnorm=2.0, name="mine")
    config = optimizer.get_config()
    assert JointMomentum.from_config(dict(config)).get_config() == config
    serialized = tf_keras.optimizers.serialize(optimizer)
    assert tf_keras.optimizers.deserialize(serialized).get_config() == config


def test_a_state_saved_before_the_first_step_loads_silently(caplog):
    """There is a count of iterations and nothing to lose; tf-keras would warn of a state it drops."""
    optimizer = JointMomentum()
    optimizer.build([tf.Variable(tf.zeros((3, 2)))])
    optimizer.load_own_variables({"0": np.array(5)})
    assert int(optimizer.iterations) == 5
    assert not caplog.records
    optimizer.load_own_variables({"0": np.array(1), "1": np.zeros(2), "2": np.zeros(2)})
    assert "Skipping variable loading for optimizer 'JointMomentum'" in caplog.text
    assert int(optimizer.iterations) == 5
