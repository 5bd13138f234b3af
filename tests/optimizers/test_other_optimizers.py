"""Optimizers beside the model's own that have state for its weights: they follow these, or refuse and say so."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from model_state import fail_at_the_second, loop
from models import batch


@tf_keras.saving.register_keras_serializable("tests")
class Own(optimizers.Adam):
    """A user's: nothing says that its rule treats each weight by itself."""


class Gan(tf_keras.Model):
    """Two networks, each with an optimizer of its own."""

    def __init__(self, kept_in, make=optimizers.Adam):
        super().__init__()
        self.generator, self.discriminator = layers.Dense(5, name="generator"), layers.Dense(1, name="discriminator")
        self.kept_in, self.make = kept_in, make

    def compile(self, **kwargs):
        super().compile(**kwargs)
        both = [self.make(0.03, name="d"), self.make(0.03, name="g")]
        if self.kept_in == "attributes":
            self.d_opt, self.g_opt = both
        else:
            self.all_of_them = {"d": both[0], "g": both[1]} if self.kept_in == "a dict" else both

    def call(self, inputs):
        return self.discriminator(self.generator(inputs))

    def two(self):
        if self.kept_in == "attributes":
            return self.d_opt, self.g_opt
        return tuple(self.all_of_them.values()) if self.kept_in == "a dict" else tuple(self.all_of_them)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x, training=True) - y[:, :1]) ** 2)
        for optimizer, layer in zip(self.two(), (self.discriminator, self.generator), strict=True):
            variables = layer.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


NAMES = {"attributes": ("d_opt", "g_opt"), "a list": ("all_of_them[0]",), "a dict": ("all_of_them['d']",)}


def gan(kept_in, make=optimizers.Adam):
    tf_keras.utils.set_random_seed(5)
    model = Gan(kept_in, make)
    model(batch()[0])
    model.compile(run_eagerly=True)
    return model


def actor_and_critic(make_for_critic=optimizers.Adam):
    """Two models over one trunk, each trained."""
    tf_keras.utils.set_random_seed(5)
    inputs = tf_keras.Input((5,))
    trunk = layers.Dense(4, "tanh", name="trunk")(inputs)
    models = [tf_keras.Model(inputs, layers.Dense(3, name=name)(trunk)) for name in ("actor", "critic")]
    for model, make in zip(models, (optimizers.Adam, make_for_critic), strict=True):
        model.compile(make(0.03), "mse", run_eagerly=True)
        train(model)
    return models


def train(*models, steps=3):
    x, y = batch()
    for model in models:
        for _ in range(steps):
            model.train_on_batch(x, y)


def all_bits(*holders):
    return [bits(each.numpy()) for holder in holders for each in holder.variables]


@pytest.mark.parametrize("kept_in", NAMES)
def test_further_optimizers_of_a_model_follow_its_weights(kept_in, caplog):
    """When it is rewritten, and when it is split: they train on as in the plain model, bit for bit, state and all."""
    caplog.set_level("INFO", "rewriter")
    plain, model = gan(kept_in), gan(kept_in)
    for change in (rewriter.rewrite, rewriter.split, None):
        train(plain, model)
        if change is not None:
            caplog.clear()
            change(model, **({"optimizer": "keep"} if change is rewriter.rewrite else {}))
            assert all(f"Adam in {model.name}.{name} after" in caplog.text for name in NAMES[kept_in])
    assert all_bits(model, *model.two()) == all_bits(plain, *plain.two())


@pytest.mark.parametrize("kept_in", NAMES)
@pytest.mark.parametrize("change", ["rewrite", "split"])
def test_further_optimizers_that_cannot_follow_are_warned_of(kept_in, change, caplog):
    """Each that has state for replaced weights, by name; one that has none trains on."""
    model = gan(kept_in, Own)
    if change == "split":
        rewriter.rewrite(model)
    train(model, steps=1)
    caplog.clear()
    rewriter.rewrite(model) if change == "rewrite" else rewriter.split(model)
    said = [each.getMessage() for each in caplog.records if (each.name, each.levelname) == ("rewriter", "WARNING")]
    for name in NAMES[kept_in]:
        assert any(f".{name}: this Own has state for weights that are replaced now" in line for line in said)
    with pytest.raises(rewriter.OptimizerError, match="built for weights that rewriter has replaced since"):
        train(model)
    model.compile(run_eagerly=True)  # makes new ones
    train(model)


def test_a_model_with_further_optimizers_is_told_that_these_are_not_centered(caplog):
    """Each can be, with the part that it trains, and keeps its state."""
    model = gan("attributes")
    train(model)
    rewriter.rewrite(model, "centered")
    assert "further ones that go on as they are: d_opt, g_opt. Give each to the part" in caplog.text
    model = gan("attributes")
    train(model)
    for part, optimizer in ((model.discriminator, model.d_opt), (model.generator, model.g_opt)):
        alone = tf_keras.Sequential([part])
        with pytest.raises(rewriter.ModelError, match=r"call it once, as in sequential.*\(batch\)"):
            rewriter.rewrite(alone, optimizer=optimizer)
        alone.build((None, part.kernel.shape[0]))
        rewriter.rewrite(alone, optimizer=rewriter.Centered(optimizer))
    train(model)
    assert [int(each.iterations) for each in model.two()] == [6, 6]


def test_models_over_the_same_layers_keep_their_states(tmp_path):
    """When one of them is rewritten, and split; a file of the other has its state."""
    plain, models = actor_and_critic(), actor_and_critic()
    actor, critic = models
    rewriter.rewrite(actor, "keep")
    train(*plain, *models)
    rewriter.export(critic, tmp_path / "critic.keras")
    assert all_bits(tf_keras.models.load_model(tmp_path / "critic.keras").optimizer) == all_bits(plain[1].optimizer)
    rewriter.split(actor)
    train(*plain, *models)
    assert all_bits(*models, actor.optimizer, critic.optimizer) == all_bits(*plain, *(each.optimizer for each in plain))


def test_an_optimizer_of_ones_own_loop_goes_on():
    """The model is not compiled, so nothing in it says that there is one."""
    results = []
    for change in (False, True):
        tf_keras.utils.set_random_seed(5)
        model = tf_keras.Sequential([layers.Dense(4, "tanh", input_shape=(5,)), layers.Dense(3)])
        optimizer = optimizers.Adam(0.03)
        loop(model, optimizer)
        if change:
            rewriter.rewrite(model, "keep")
        loop(model, optimizer)
        if change:
            rewriter.split(model)
        loop(model, optimizer)
        results.append(all_bits(model, optimizer))
    assert results[0] == results[1]


@pytest.mark.parametrize("change", ["rewrite", "split"])
def test_other_optimizers_are_as_they_were_when_a_change_fails(change, monkeypatch):
    plain, models = actor_and_critic(), actor_and_critic()
    if change == "split":
        rewriter.rewrite(models[0], "keep")
    fail_at_the_second(monkeypatch, {"rewrite": "merge", "split": "separate"}[change])
    with pytest.raises(MemoryError):
        rewriter.rewrite(models[0], "keep") if change == "rewrite" else rewriter.split(models[0])
    monkeypatch.undo()
    if change == "split":
        train(*plain, *models)
        rewriter.split(models[0])
    train(*plain, *models)
    assert all_bits(*models, *(each.optimizer for each in models)) == all_bits(
        *plain, *(each.optimizer for each in plain)
    )


def test_an_optimizer_that_cannot_follow_is_as_it_was_when_a_change_fails(monkeypatch):
    plain, models = actor_and_critic(Own), actor_and_critic(Own)
    fail_at_the_second(monkeypatch, "merge")
    with pytest.raises(MemoryError):
        rewriter.rewrite(models[0], "keep")
    train(*plain, *models)
    assert all_bits(*models, models[1].optimizer) == all_bits(*plain, plain[1].optimizer)


def test_a_function_that_trains_other_weights_goes_on_with_the_state():
    """Of an optimizer that was moved: it has new slots for all that it trains."""
    results = []
    for change in (False, True):
        actor, critic = actor_and_critic()
        optimizer, head = optimizers.Adam(0.03), critic.get_layer("critic")
        optimizer.build([*actor.trainable_variables, *head.trainable_variables])

        @tf.function
        def step(variables, optimizer=optimizer, head=head):
            gradients = [tf.ones_like(variable) for variable in variables]
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return head.kernel

        own = list(head.trainable_variables)
        step(own)
        if change:
            rewriter.rewrite(actor, "keep")
        step(own)
        loop(actor, optimizer)
        if change:
            rewriter.split(actor)
        step(own)
        results.append([each.numpy() for each in (*own, *actor.variables, *optimizer.variables)])
    assert all(abs(one - other).max() <= 1e-6 for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("is_built", [False, True])
def test_what_weight_decay_leaves_out_follows(is_built):
    """Of an optimizer of ones own loop, given as variables before the rewrite."""
    results = []
    for change in (False, True):
        tf_keras.utils.set_random_seed(5)
        model = tf_keras.Sequential([layers.Dense(4, "tanh", input_shape=(5,)), layers.Dense(3)])
        optimizer = optimizers.AdamW(0.03, weight_decay=0.5)
        optimizer.exclude_from_weight_decay([layer.bias for layer in model.layers])
        if is_built:
            loop(model, optimizer)
        if change:
            rewriter.rewrite(model, "keep")
        loop(model, optimizer)
        if change:
            rewriter.split(model)
        loop(model, optimizer)
        results.append(all_bits(model, optimizer))
    assert results[0] == results[1]


def test_what_is_half_made_is_passed_over():
    """A model or optimizer whose constructor raised, kept alive by what it raised."""

    class Broken(tf_keras.Model):
        def __init__(self):
            raise ValueError(self)

    kept = []
    for make in (Broken, lambda: optimizers.legacy.Adam(typo=1)):
        try:
            make()
        except (TypeError, ValueError) as error:
            kept.append(error)
    assert len(kept) == 2
    plain, models = actor_and_critic(), actor_and_critic()
    rewriter.rewrite(models[0], "keep")
    train(*plain, *models)
    assert all_bits(rewriter.split(models[0])) == all_bits(plain[0])


def test_an_optimizer_of_a_bias_alone_cannot_follow():
    """Nor can one of a kernel alone: it has no state for the whole."""
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    optimizer = optimizers.Adam(0.03)
    optimizer.build([model.layers[0].bias])
    rewriter.rewrite(model, "keep")
    with pytest.raises(rewriter.OptimizerError, match="replaced since"):
        loop(model, optimizer)


@pytest.mark.parametrize("way", ["keep", "given"])
@pytest.mark.parametrize("change", ["rewrite", "split"])
def test_why_the_state_of_an_optimizer_that_did_not_follow_is_gone(way, change):
    """Actor and critic over one trunk, one changed after the other: why, and what to do."""
    actor, critic = actor_and_critic(Own)
    if change == "split":
        rewriter.rewrite(actor, optimizer=optimizers.Adam(0.03))
        critic.compile(Own(0.03), "mse", run_eagerly=True)
        train(critic)
        rewriter.split(actor)
    else:
        rewriter.rewrite(actor, optimizer="keep")
    with pytest.raises(rewriter.OptimizerError, match=r"Two optimizers hold state for the same variables.*exclude="):
        rewriter.rewrite(critic, optimizer="keep" if way == "keep" else critic.optimizer)
    rewriter.rewrite(critic, optimizer=optimizers.Adam(0.03))  # as the error says
    train(critic)


def test_both_keep_their_state_where_the_shared_layers_are_left_out():
    """The other thing that the error says is possible."""
    results = []
    for changed in (False, True):
        models = actor_and_critic(Own)
        if changed:
            for model in models:
                rewriter.rewrite(model, optimizer=model.optimizer, exclude="trunk")
        train(*models)
        for model in models:
            rewriter.split(model)
        results.append([bits(weight) for model in models for weight in model.get_weights()])
    assert results[0] == results[1]


def wide_and_deep():
    """Keras's own model with a list of optimizers, trained for some steps."""
    tf_keras.utils.set_random_seed(5)
    deep = tf_keras.Sequential([layers.Dense(4, "relu", name="hidden"), layers.Dense(3, name="last")])
    model = tf_keras.experimental.WideDeepModel(tf_keras.experimental.LinearModel(3), deep)
    both = [optimizers.SGD(0.03, momentum=0.9), optimizers.Adam(0.03)]
    model.compile(both, "mse", run_eagerly=True)
    train_wide_and_deep(model)
    return model


def train_wide_and_deep(model):
    x, y = batch()
    for _ in range(3):
        model.train_on_batch([x, x], y)


def test_each_of_a_list_of_optimizers_is_kept(caplog):
    """WideDeepModel is compiled with two: both go on with their state through rewrite and split."""
    plain, model = wide_and_deep(), wide_and_deep()
    with caplog.at_level("INFO", logger="rewriter"):
        rewriter.rewrite(model, optimizer="keep")
    assert "optimizer: each kept" in caplog.text
    assert "also kept: state of the Adam in" in caplog.text
    assert len(rewriter.merged_layers(model)) >= 2
    for each in (plain, model):
        train_wide_and_deep(each)
    rewriter.split(model)
    for each in (plain, model):
        train_wide_and_deep(each)
    assert list(map(bits, model.get_weights())) == list(map(bits, plain.get_weights()))


@pytest.mark.parametrize(
    "optimizer", [None, "centered", "SOAP", rewriter.SOAP(0.1)], ids=["default", "centered", "name", "rule"]
)
def test_a_list_of_optimizers_cannot_be_replaced(optimizer):
    model = wide_and_deep()
    with pytest.raises(rewriter.OptimizerError, match=r"several optimizers: SGD, Adam\. optimizer='keep' keeps each"):
        rewriter.rewrite(model, optimizer=optimizer)
    assert not rewriter.is_rewritten(model)
