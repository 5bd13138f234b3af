"""Classes that are made of a user's class, and go with it."""

import gc
import weakref

import pytest
import tf_keras
from tf_keras import layers

import rewriter
from rewriter.core.layout import is_merged


def layer_of_a_new_class():
    class OwnDense(layers.Dense):
        """Defined anew, as when a cell of a notebook is run again."""

    return OwnDense(3, input_shape=(5,))


def rewritten(layer):
    model = tf_keras.Sequential([layer])
    rewriter.rewrite(model)
    rewriter.split(model)
    rewriter.rewrite(model)
    return model


def test_nothing_keeps_a_class_that_is_derived_from_a_users():
    """No cache and no registry: let go of, it is gone once another is rewritten. Keras itself keeps the user's."""
    gone = weakref.ref(type(rewritten(layer_of_a_new_class()).layers[0]))
    gc.collect()
    other = rewritten(layer_of_a_new_class())
    gc.collect()
    assert gone() is None
    assert is_merged(other.layers[0])


def test_a_class_that_wants_to_hear_of_its_subclasses_hears_of_none():
    """Its ``__init_subclass__`` may register them, or want arguments."""

    class Picky(layers.Dense):
        def __init_subclass__(cls, *, registered_as):
            raise AssertionError(registered_as)

    model = rewritten(Picky(3, input_shape=(5,)))
    assert len(rewriter.plan(model).merged) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_layers_have_their_own_classes_after_a_run(fails):
    """The check observes the calls of layers by their classes, and puts them back, also where a call fails."""

    class Sometimes(layers.Layer):
        def call(self, inputs):
            if fails and hasattr(self.before, "augmented_kernel"):
                raise ValueError("no")
            return inputs

    last = Sometimes()
    last.before = layers.Dense(4, input_shape=(5,))
    model = tf_keras.Sequential([last.before, last, layers.Dense(3)])
    classes = [type(each) for each in (model, *model.layers)]
    if fails:
        with pytest.raises(rewriter.DifferenceError, match=r"it failed when the model was run as a whole: .*no"):
            rewriter.rewrite(model)
    else:
        rewriter.rewrite(model)
        rewriter.split(model)
    assert [type(each) for each in (model, *model.layers)] == classes
