"""Pairs found in the graph of a model: the right ones, everywhere; all else is remarked on, and nothing is believed."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from discovered import SQUARE, Custom, found_in, found_pairs
from family_models import FAMILIES
from hand_made_models import Gate, Mixing, hand_made
from model_state import state
from models import MODELS, batch, fit, trained_pair
from rewriter.model.families import family_of
from rewriter.model.pairs import Pair, Weight
from rewriter.model.walk import locate_layers
from rewriter.planning.pair_discovery import discover
from short_cases import cases
from tensorflow_models import in_module
from zoo import ZOO

APPLICATIONS = ["MobileNetV3Small", "ResNet50V2", "ConvNeXtTiny", "EfficientNetV2B0"]


def known_pairs(model):
    """What the table of families says of every layer of a model."""
    pairs = {}
    for found in locate_layers(model):
        family = family_of(found.layer)
        if family is not None and found.layer.bias is not None:
            pair = family.pair(found.layer) if callable(family.pair) else family.pair
            pairs[found.paths[0]] = (pair,)
    return pairs


def application(name):
    return getattr(tf_keras.applications, name)(weights=None, input_shape=(64, 64, 3))


@pytest.mark.parametrize("builder", [*FAMILIES.values(), *MODELS.values()], ids=[*FAMILIES, *MODELS])
def test_what_is_found_is_what_is_known(builder):
    """On models of known layers the graph says of each layer what the table says, and pairs nothing else."""
    model = builder()
    model(batch()[0])
    assert found_pairs(model, discover(model)) == known_pairs(model)


@pytest.mark.parametrize("name", cases(APPLICATIONS, {"MobileNetV3Small"}))
def test_applications(name):
    """So it is on models of tf_keras.applications; what has no bias, or scales, is remarked on by its place."""
    model = application(name)
    discovery = discover(model)
    assert found_pairs(model, discovery) == known_pairs(model)
    paired = sum(len(pair.attributes) for pairs in discovery.pairs.values() for pair in pairs)
    assert len(discovery.remarks) == len(model.trainable_weights) - paired
    assert all("trainable, and in no pair" in remark.text for remark in discovery.remarks)


WITH_PAIRS_OF_KNOWN_LAYERS = {
    name: ZOO[name] for name in ("custom_layer", "subclassed", "deep_containers", "bidirectional", "masked")
} | {"in_module": in_module}


@pytest.mark.parametrize("builder", WITH_PAIRS_OF_KNOWN_LAYERS.values(), ids=WITH_PAIRS_OF_KNOWN_LAYERS)
def test_wherever_layers_sit(builder):
    """In custom layers, containers, wrappers and loops a layer is found by its path."""
    model = builder()
    model(batch()[0])
    assert found_pairs(model, discover(model)) == known_pairs(model)


def test_hand_made_layers_are_found():
    """Two pairs in one layer, one of them with units in rows; a loop fed by its own state; and a gain is left over."""
    model = hand_made()
    discovery = discover(model)
    found = found_pairs(model, discovery)
    assert found["gate"] == (Pair((Weight("from_input"), Weight("from_state")), (Weight("b"),)),)
    assert found["mixing"] == (
        Pair((Weight("w"),), (Weight("b"),)),
        Pair((Weight("v", (-2,)),), (Weight("c"),)),
    )
    assert [str(remark) for remark in discovery.remarks] == ["mixing.gain: trainable, and in no pair: used by Mul"]


REMARKED = {
    "no bias": ({"w": (4, 4)}, lambda s, x: x @ s.w, {"custom.w": "in no pair: a product without an addition"}),
    "tied": (
        {"w": (4, 4), "b": (4,)},
        lambda s, x: tf.tanh(x @ s.w + s.b) @ tf.transpose(s.w),
        {"custom.w": "used in more than one way: multiplied, units along axis -2; multiplied, units along axis -1"},
    ),
    "one bias for two": (
        {"w": (4, 4), "u": (4, 4), "b": (4,)},
        lambda s, x: tf.tanh(x @ s.w + s.b) @ s.u + s.b,
        {
            "custom.b": "used in more than one way: added to products of custom.u; added to products of custom.w",
            "custom.w": "a product, and custom.b, added to it, can be in no pair",
        },
    ),
    "norm of the kernel": (
        SQUARE,
        lambda s, x: x @ s.w / tf.norm(s.w) + s.b,
        {"custom.w": "used in more than one way"},
    ),
    "normalized kernel": (SQUARE, lambda s, x: x @ (s.w / 2.0) + s.b, {"custom.w": "in no pair: used by RealDiv"}),
    "subtracted": (SQUARE, lambda s, x: x @ s.w - s.b, {"custom.b": "in no pair: used by Sub"}),
    "scaled bias": (SQUARE, lambda s, x: x @ s.w + s.b * 2.0, {"custom.b": "in no pair: used by Mul"}),
    "bias on the input": (SQUARE, lambda s, x: (x + s.b) @ s.w, {"custom.b": "in no pair: used by AddV2"}),
    "not used": ({**SQUARE, "extra": (3,)}, lambda s, x: x @ s.w + s.b, {"custom.extra": "in no pair: not used"}),
    "activation between": (SQUARE, lambda s, x: tf.tanh(x @ s.w) + s.b, {"custom.b": "in no pair: used by AddV2"}),
    "two factors": ({"w": (4, 2), "u": (2, 4), "b": (4,)}, lambda s, x: x @ (s.w @ s.u) + s.b, {"custom.u": "MatMul"}),
}


@pytest.mark.parametrize(("shapes", "call", "remarks"), REMARKED.values(), ids=REMARKED)
def test_what_does_not_fit_is_remarked_on(shapes, call, remarks):
    """With its place and what is done with it, and raises under strict; no pair is proposed of it."""
    pairs, found = found_in(shapes, call)
    for place, text in remarks.items():
        assert text in found[place]
        assert not any(place.removeprefix("custom.") in attributes for attributes in pairs)
    model = tf_keras.Sequential([layers.InputLayer((4,)), Custom(shapes, call, name="custom"), layers.Dense(2)])
    with pytest.raises(rewriter.NotMergeableError, match=next(iter(remarks))):
        rewriter.plan(model, discover=True, strict=True)
    assert next(iter(remarks)) in str(rewriter.plan(model, discover=True))


def test_weights_of_two_layers_are_no_pair():
    """A bias that another layer adds stays where it is, and so does one that the model itself holds."""

    class Owner(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.product = layers.Dense(4, use_bias=False)
            self.many = [tf.Variable(tf.zeros((4, 4))), tf.Variable(tf.zeros(4))]
            self.own = self.add_weight("own", (4,))

        def call(self, x):
            return (self.product(x) + self.own) @ self.many[0] + self.many[1]

    model = Owner()
    model(tf.zeros((2, 4)))
    discovery = discover(model)
    assert discovery.pairs == {}
    texts = {remark.place: remark.text for remark in discovery.remarks}
    assert "a product without an addition of a weight of the same layer" in texts["product.kernel"]
    assert texts["own"] == "trainable, and in no pair: the model itself holds it, not a layer in it"
    assert set(texts) == {"product.kernel", "own", "many[0]", "many[1]"}


def test_a_frozen_layer_and_a_shared_one():
    """A frozen product without a bias is remarked on too; a layer that is called twice is used in one way."""
    shared = layers.Dense(4)
    inputs = tf_keras.Input((4,))
    bare = layers.Dense(4, use_bias=False, trainable=False, name="bare")
    model = tf_keras.Model(inputs, bare(shared(shared(inputs))))
    discovery = discover(model)
    assert found_pairs(model, discovery) == {shared.name: (Pair((Weight("kernel"),), (Weight("bias"),)),)}
    assert [str(each) for each in discovery.remarks] == [
        "bare.kernel: a product without an addition of a weight of the same layer"
    ]


def test_looking_changes_nothing():
    """Weights, losses, random numbers and training are those of a model that was never looked at."""

    def builder():
        inputs = tf_keras.Input((5,))
        x = layers.Dropout(0.5)(layers.Dense(6, kernel_regularizer="l2", activity_regularizer="l1")(inputs))
        x = layers.BatchNormalization()(x)
        return tf_keras.Model(inputs, layers.Dense(3)(layers.GaussianNoise(0.1)(x)))

    original, model = trained_pair(builder)
    before = state(model)
    rewriter.plan(model, discover=True)
    assert state(model) == before
    model(batch()[0])
    losses = [float(loss) for loss in model.losses]
    rewriter.plan(model, discover=True)
    assert [float(loss) for loss in model.losses] == losses
    assert fit(model, 2).history == fit(original, 2).history


def test_looking_builds_nothing_and_draws_nothing():
    """A layer that is used in training alone stays unbuilt, and seeded generators go on where they were."""

    class Auxiliary(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.main, self.aux = layers.Dense(3), layers.Dense(3)

        def call(self, inputs, training=False):
            outputs = self.main(inputs)
            return outputs + self.aux(inputs) if training else outputs

    model = Auxiliary()
    model(batch()[0])
    assert len(rewriter.plan(model, discover=True).merges) == 1
    assert not model.aux.built
    assert len(model.weights) == 2

    def seeded():
        return tf_keras.Sequential(
            [
                layers.Reshape((5, 1), input_shape=(5,)),
                layers.LSTM(4, dropout=0.3, seed=5),
                layers.Dropout(0.5, seed=1),
                layers.Dense(3),
            ]
        )

    original, model = trained_pair(seeded, epochs=0)  # a new trace draws from the seed, as ever
    rewriter.plan(model, discover=True)
    rewriter.rewrite(model, "keep", layers="all", discover=True)
    assert fit(model, 2).history == fit(original, 2).history


def test_a_model_that_cannot_be_traced_says_what_to_do():
    """Without knowing its inputs, or where a call raises, the error names inputs=; given a batch, it is traced."""

    class Picky(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs["x"])

    model = Picky()
    model.dense.build((None, 4))
    model.built = True
    with pytest.raises(rewriter.ModelError, match=r"does not say what it takes.*inputs="):
        rewriter.plan(model, discover=True)
    assert len(rewriter.plan(model, discover=True, inputs={"x": np.ones((2, 4), "float32")}).merges) == 1
    with pytest.raises(rewriter.ModelError, match=r"cannot be traced, it raised .*inputs="):
        rewriter.plan(model, discover=True, inputs={"y": tf.ones((2, 4))})


def test_a_model_that_is_not_built_says_so():
    """Some of its layers are made only when it is called; the error says to do that."""
    model = tf_keras.Sequential([layers.InputLayer((4,)), layers.Dense(3)])

    class Late(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.late = model, layers.Dense(2)

        def call(self, inputs):
            return self.late(self.first(inputs))

    with pytest.raises(rewriter.ModelError, match=r"cannot be traced.*not built: call it on a batch first\.$"):
        rewriter.plan(Late(), discover=True, inputs=tf.ones((2, 4)))


def test_a_call_of_several_arguments():
    """What a model was called with beside its inputs is remembered: it is traced, and checked, with the like."""

    class Translator(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.mixing, self.dropout, self.out = Mixing(), layers.Dropout(0.5), layers.Dense(3)

        def call(self, source, target, training=None, weights=None):
            mixed = self.dropout(self.mixing(source) * tf.reduce_mean(target), training=training)
            return self.out(mixed if weights is None else mixed * tf.reduce_mean(weights))

    x = tf.constant(np.random.default_rng(3).standard_normal((2, 4)), "float32")
    for arguments, options in [((x, x), {}), ((x, x), {"weights": x}), ((x, x, True), {}), ((x, x, None, x), {})]:
        model = Translator()
        model(*arguments, **options)
        outputs = bits(model(x, x, **options))
        plan = rewriter.plan(model, discover=True)
        assert [each.weights for each in plan.merges if each.found] == [("w", "b")]
        rewriter.rewrite(model, tf_keras.optimizers.SGD(0.1), discover=True)
        assert len(rewriter.plan(model).merged) == 2  # what is found is merged only if the model could be run
        assert bits(model(x, x, **options)) == outputs


def test_a_found_pair_that_computes_something_else_is_put_back(caplog):
    """The layer is as it was, the log and the plan say why, and what passes is merged all the same."""

    class Sly(Mixing):
        """Adds one where its weight is no variable: what a graph shows of it is not all it does."""

        def call(self, inputs):
            return super().call(inputs) + (0.0 if isinstance(self.w, tf.Variable) else 1.0)

    model = tf_keras.Sequential([layers.InputLayer((6, 4)), Gate(name="gate"), Sly(name="sly"), layers.Dense(3)])
    model.compile("adam", "mse")
    x = np.random.default_rng(2).standard_normal((4, 6, 4)).astype("float32")
    expected, sly = bits(model(x)), type(model.get_layer("sly"))
    with caplog.at_level(logging.INFO, "rewriter"):
        rewriter.rewrite(model, "keep", discover=True)
    assert type(model.get_layer("sly")) is sly
    assert "sly: found, and left as it is: its outputs differ by up to 1" in caplog.text
    assert bits(model(x)) == expected
    assert [each.path for each in rewriter.plan(model).merged] == ["gate", "dense"]
    model.fit(x, np.ones((4, 3)), verbose=0)
    rewriter.split(model)
    assert [weight.name for weight in model.weights][:3] == ["gate/from_input:0", "gate/from_state:0", "gate/b:0"]


def test_a_found_pair_that_cannot_be_checked_is_left_alone(caplog):
    """Where the model cannot be run, nothing proves the guess; with check=False it is checked all the same."""

    class Dictionary(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.mixing = Mixing()
            self.fails = False

        def call(self, inputs):
            if self.fails and tf.executing_eagerly():
                raise RuntimeError("no more")
            return self.mixing(inputs)

    model = Dictionary()
    model(tf.ones((2, 4)))
    model.fails = True
    with caplog.at_level(logging.INFO, "rewriter"):
        rewriter.rewrite(model, tf_keras.optimizers.SGD(0.1), discover=True, check=False)
    assert type(model.mixing) is Mixing
    assert "mixing: found, and left as it is: it could not be checked: the model raised" in caplog.text


def test_a_guess_in_a_model_that_draws_random_numbers_is_not_believed(caplog):
    """It differs from itself as well, and proves nothing."""
    noisy = layers.Lambda(lambda x: x + tf.random.uniform(tf.shape(x)))
    model = tf_keras.Sequential([layers.InputLayer((4,)), noisy, Mixing(name="mixing"), layers.Dense(2)])
    rewriter.rewrite(model, discover=True)
    assert type(model.get_layer("mixing")) is Mixing
    assert "mixing: found, and left as it is: it could not be checked: the model draws random numbers" in caplog.text
    assert [each.path for each in rewriter.plan(model).merged] == ["dense"]


def test_from_the_command_line(run, tmp_path):
    """inspect --discover shows what is found and remarked, rewrite --discover merges it, and strict exits with 1."""
    model = hand_made()
    model.save(tmp_path / "base.keras")
    code, out, _ = run("inspect", tmp_path / "base.keras", "--discover", "--import", "hand_made_models")
    assert code == 0
    assert "found: w and b" in out
    assert "mixing.gain: trainable, and in no pair: used by Mul" in out
    code, _, err = run("inspect", tmp_path / "base.keras", "--discover", "--strict", "--import", "hand_made_models")
    assert code == 1
    assert "mixing.gain" in err
    joint = tmp_path / "joint.keras"
    code, out, _ = run("rewrite", tmp_path / "base.keras", joint, "--discover", "--import", "hand_made_models")
    assert code == 0
    code, _, _ = run("verify", tmp_path / "base.keras", joint, "--import", "hand_made_models")
    assert code == 0
    assert len(rewriter.plan(rewriter.load_model(joint)).merged) == 4


class Doubled(layers.Dense):
    """Computes something else with its kernel than a Dense does, so that the graph shows no pair."""

    def call(self, inputs):
        return tf.nn.bias_add(inputs @ (self.kernel * 2.0), self.bias)


def test_remarks_and_the_table_agree():
    """Of what is merged by its class, or was told, a remark says so; what is left out is not remarked on."""
    model = tf_keras.Sequential([layers.Embedding(5, 4, input_length=3), Doubled(3, name="doubled")])
    remarks = {each.place: each.text for each in rewriter.plan(model, discover=True).remarks}
    assert (
        remarks["doubled.kernel"]
        == "merged as its family or a declaration says, and in what the model computes: used by Mul"
    )
    assert remarks["embedding.embeddings"] == "trainable, and in no pair: used by ResourceGather"
    without = rewriter.plan(model, discover=True, exclude="embedding")
    assert [each.place for each in without.remarks] == ["doubled.kernel", "doubled.bias"]
    assert without.selectors == {"exclude='embedding'": 1}
    plain = tf_keras.Sequential([layers.Embedding(5, 4, input_length=3), layers.Dense(3)])
    with pytest.raises(rewriter.NotMergeableError, match="exclude="):
        rewriter.plan(plain, discover=True, strict=True)
    assert len(rewriter.plan(plain, discover=True, strict=True, exclude="embedding*").merges) == 1
