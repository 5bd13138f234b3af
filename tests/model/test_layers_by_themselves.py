"""A built layer with layers inside it is taken where a model is, as the encoders of public model gardens are layers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits


class Block(layers.Layer):
    def __init__(self, size, **options):
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.widen, self.narrow = layers.Dense(2 * size, "gelu"), layers.Dense(size)
        self.norm = layers.LayerNormalization()

    def call(self, inputs):
        hidden = self.norm(inputs + self.attention(inputs, inputs))
        return hidden + self.narrow(self.widen(hidden))


class Encoder(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.blocks = [Block(6) for _ in range(2)]
        self.pooler = layers.Dense(6, "tanh")

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return {"sequence": inputs, "pooled": self.pooler(inputs[:, 0])}


class WithTraining(Encoder):
    def call(self, inputs, training=None):
        return super().call(inputs if not training else 1.0 * inputs)


def data():
    return np.random.default_rng(3).standard_normal((4, 5, 6)).astype("float32")


def build(cls=Encoder):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    encoder = cls(name="encoder")
    encoder(data())
    return encoder


def train(encoder, optimizer, steps=3):
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(encoder(data())["pooled"] ** 2)
        variables = encoder.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))


def in_standard_form(encoder):
    with rewriter.standard_form(encoder):
        return [bits(weight) for weight in encoder.get_weights()]


@pytest.mark.parametrize("cls", [Encoder, WithTraining])
def test_plan_rewrite_verify_split(cls):
    """Paths are those of attributes; the weights, outputs and what training gives are those of the unmerged layer."""
    original, encoder = build(cls), build(cls)
    plan = rewriter.plan(encoder)
    merged = ["blocks/0/widen", "blocks/0/narrow", "blocks/1/widen", "blocks/1/narrow", "pooler"]
    assert sorted(each.path for each in plan.merges) == sorted(merged)
    assert "encoder: 5 of 13 layers with a kernel can be merged" in str(plan)
    assert rewriter.rewrite(encoder, layers="all", discover=True) is encoder
    assert hasattr(encoder.pooler, "augmented_kernel")
    assert hasattr(encoder.blocks[1].attention._query_dense, "augmented_kernel")
    report = rewriter.verify(original, encoder)
    assert report.same
    assert report.outputs
    for each in (original, encoder):
        train(each, optimizers.Adam(0.03))
    assert in_standard_form(encoder) == in_standard_form(original)
    assert rewriter.split(encoder) is encoder
    assert type(encoder.pooler) is layers.Dense
    assert [bits(weight) for weight in encoder.get_weights()] == [bits(weight) for weight in original.get_weights()]
    assert [weight.name for weight in encoder.weights] == [weight.name for weight in original.weights]


def test_an_optimizer_that_is_given_goes_on_with_its_state():
    """And an attribute of the layer that happens to be called optimizer is nobody's business."""
    original, encoder = build(), build()
    pair = [optimizers.Adam(0.03), optimizers.Adam(0.03)]
    for each, optimizer in zip((original, encoder), pair, strict=True):
        train(each, optimizer)
    rewriter.rewrite(encoder, optimizer=pair[1])
    assert not hasattr(encoder, "optimizer")
    for each, optimizer in zip((original, encoder), pair, strict=True):
        train(each, optimizer)
    assert in_standard_form(encoder) == in_standard_form(original)


def test_without_an_optimizer_none_is_made(caplog):
    """The log says who makes one; a joint one sees whole layers."""
    caplog.set_level("INFO", logger="rewriter")
    encoder = rewriter.rewrite(build())
    assert any("a layer has none: make one for your training loop" in each.getMessage() for each in caplog.records)
    before = bits(encoder.pooler.augmented_kernel.numpy())
    train(encoder, rewriter.JointMomentum(0.03))
    assert bits(encoder.pooler.augmented_kernel.numpy()) != before
    rewriter.rewrite(build(), optimizer="keep")  # there is none to keep


def test_a_layer_under_a_strategy():
    """Its variables say under which it was made."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        encoder = Encoder()
        encoder(data())
        optimizer = optimizers.Adam(0.03)
    rewriter.rewrite(encoder, optimizer=optimizer)
    assert isinstance(encoder.pooler.augmented_kernel, tf.distribute.DistributedValues)
    rewriter.split(encoder)


def test_what_is_missing_is_said():
    """Of a layer that is not built, one that is itself to be merged, one that is to be saved, and what is no layer."""
    with pytest.raises(rewriter.ModelError, match="encoder is not built: call the layer on a batch"):
        rewriter.rewrite(Encoder(name="encoder"))
    for layer, shape in ((layers.Dense(3, name="one"), (2, 5)), (layers.LSTM(3, name="one"), (2, 5, 4))):
        layer(np.ones(shape))
        with pytest.raises(rewriter.ModelError, match=r"one is itself a layer to merge.*Sequential\(\[layer\]\)"):
            rewriter.rewrite(layer, layers="all")
        rewriter.rewrite(tf_keras.Sequential([layer]), layers="all")  # as the error says
        assert "augmented" in " ".join(weight.name for weight in layer.weights)
    with pytest.raises(rewriter.ModelError, match=r"layer encoder, which cannot be saved.*Sequential\(\[layer\]\)"):
        rewriter.export(build(), "nowhere.keras")
    for wrong in (3, None):
        with pytest.raises(rewriter.ModelError) as error:
            rewriter.rewrite(wrong)
        assert "load_model" not in str(error.value)
    with pytest.raises(rewriter.ModelError, match=r"rewriter\.load_model\(path\) first"):
        rewriter.rewrite("model.keras")


def test_a_model_around_it_trains_on():
    """With the state that its optimizer has, bit for bit."""
    results = []
    for change in (False, True):
        encoder = build()
        inputs = tf_keras.Input((5, 6))
        tf_keras.utils.set_random_seed(3)
        model = tf_keras.Model(inputs, layers.Dense(2, name="head")(encoder(inputs)["pooled"]))
        model.compile(optimizers.Adam(0.03), "mse", run_eagerly=True)
        y = np.ones((4, 2), "float32")
        model.train_on_batch(data(), y)
        if change:
            rewriter.rewrite(encoder, exact=True)
        model.train_on_batch(data(), y)
        if change:
            rewriter.split(encoder)
        results.append([bits(each.numpy()) for each in (*model.variables, *model.optimizer.variables)])
    assert results[0] == results[1]


def test_an_optimizer_goes_back_with_a_layer():
    """Given to split as it was to rewrite: training goes on bit for bit; a model has its own."""
    original, encoder = build(), build()
    pair = [optimizers.Adam(0.03), optimizers.Adam(0.03)]
    rewriter.rewrite(encoder, optimizer=pair[1])
    for each, optimizer in zip((original, encoder), pair, strict=True):
        train(each, optimizer)
    rewriter.split(encoder, optimizer=pair[1])
    for each, optimizer in zip((original, encoder), pair, strict=True):
        train(each, optimizer)
    assert [bits(weight) for weight in encoder.get_weights()] == [bits(weight) for weight in original.get_weights()]
    with pytest.raises(rewriter.OptimizerError, match="split takes optimizer= for a layer that is no model"):
        rewriter.split(tf_keras.Sequential([layers.Dense(2, input_shape=(3,))]), optimizer=pair[1])
    with pytest.raises(rewriter.OptimizerError, match="optimizer= must be an optimizer of tf_keras that is not joint"):
        rewriter.split(encoder, optimizer="keep")
