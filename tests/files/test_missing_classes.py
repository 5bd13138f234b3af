"""A SavedModel of a class that is not known here, in whose place Keras runs a graph: it is left alone, and named."""

import sys

import pytest
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from hand_made_models import Mixing


def test_layers_without_their_class_are_left_alone(tmp_path):
    """Keras runs a frozen graph for a class it does not know; what is in there would no longer be trained."""

    class Block(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = layers.Dense(4)

        def call(self, inputs):
            return self.dense(inputs)

    tf_keras.Sequential([tf_keras.Input((5,)), Block(name="block"), layers.Dense(3)]).save(tmp_path / "m")
    model = rewriter.load_model(tmp_path / "m")
    decisions = {decision.path: decision for decision in rewriter.plan(model).decisions}
    assert decisions["block/dense"].action == "skip"
    assert "the class Block is not known here" in decisions["block/dense"].reason
    assert sum(decision.action == "merge" for decision in decisions.values()) == 1
    for name in ("out.keras", "out.h5"):
        with pytest.raises(rewriter.FileError, match=r"could not be loaded again\. .* in their place: Block; "):
            rewriter.export(model, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_kernel_in_a_layer_without_its_class_needs_the_class(tmp_path):
    """Neither rewriter.pair nor discover=True would do, though it is of no known family."""

    class Scale(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight("kernel", (input_shape[-1],))

        def call(self, inputs):
            return inputs * self.kernel

    tf_keras.Sequential([tf_keras.Input((5,)), Scale(name="scale"), layers.Dense(3)]).save(tmp_path / "m")
    model = rewriter.load_model(tmp_path / "m")
    (reason,) = [each.reason for each in rewriter.plan(model).decisions if each.path == "scale"]
    assert reason.startswith("the class Scale is not known here")


def test_what_is_found_in_a_layer_without_its_class_is_left_alone(tmp_path):
    """The graph that runs in its place would go on with the weights of before."""
    tf_keras.Sequential([tf_keras.Input((5,)), Mixing(3, name="mixing"), layers.Dense(3)]).save(tmp_path / "m")
    with tf_keras.saving.custom_object_scope({}):
        registered = tf_keras.saving.get_registered_name(Mixing)
        known = tf_keras.saving.get_custom_objects().pop(registered)
        try:
            model = rewriter.load_model(tmp_path / "m")
        finally:
            tf_keras.saving.get_custom_objects()[registered] = known
    decisions = [each for each in rewriter.plan(model, discover=True).decisions if each.path == "mixing"]
    assert decisions
    assert all(f"the class {registered} is not known here" in each.reason for each in decisions)
    rewriter.rewrite(model, discover=True)
    rewriter.save_model(model, tmp_path / "joint")


def test_a_layer_that_an_application_has_for_itself_is_known(run, tmp_path):
    """Keras asks for it as for a user's own: every ConvNeXt has one. Only a ``.keras`` file says where it is from."""
    scale = sys.modules["tf_keras.src.applications.convnext"].LayerScale(0.5, 4)
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,)), scale, layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    assert run("rewrite", tmp_path / "model.keras", tmp_path / "merged.keras")[0] == 0
    again = rewriter.load_model(tmp_path / "merged.keras")
    assert [bits(each) for each in rewriter.split(again).get_weights()] == [bits(each) for each in model.get_weights()]
