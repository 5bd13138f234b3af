"""What programs that are built on this library ask of a model."""

import pytest
import tf_keras
from tf_keras import layers

import rewriter
from models import MODELS


def test_merged_layers_are_listed_with_their_kernels():
    """By path, each once though it is shared; none before, none in standard form, none after."""
    model = MODELS["nested"]()
    assert not rewriter.is_rewritten(model)
    planned = [each.path for each in rewriter.plan(model).merges]
    rewriter.rewrite(model)
    merged = rewriter.merged_layers(model)
    assert [each.path for each in merged] == planned
    for each in merged:
        assert each.kernel is each.layer.augmented_kernel
        assert tuple(each.kernel.shape) == each.layout.shape
        assert rewriter.layout_of(each.kernel) == each.layout
    with rewriter.standard_form(model):
        assert not rewriter.is_rewritten(model)
    assert rewriter.is_rewritten(model)
    rewriter.split(model)
    assert rewriter.merged_layers(model) == []


def test_a_layer_with_several_kernels_is_there_several_times():
    """As a recurrent layer in two directions has two cells, and one cell one kernel."""
    model = tf_keras.Sequential([layers.Bidirectional(layers.GRU(3), input_shape=(4, 2), name="both")])
    rewriter.rewrite(model, layers="all")
    assert len(rewriter.merged_layers(model)) == 2


def test_what_is_no_model_has_no_layers():
    with pytest.raises(rewriter.ModelError):
        rewriter.is_rewritten("model.keras")


@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("attribute", ["kernel", "bias"])
def test_a_view_says_that_it_is_to_be_read(attribute, method):
    """As pruning and projections assign to a kernel: TensorFlow says that a tensor has no such method."""
    model = MODELS["sequential"]()
    rewriter.rewrite(model)
    layer, *_ = (each.layer for each in rewriter.merged_layers(model))
    with pytest.raises(rewriter.ModelError, match=f"{attribute} of {layer.name} is a view .*standard_form"):
        getattr(getattr(layer, attribute), method)(0.0)
