"""A plan that is given to ``rewrite``: just that is done, or nothing."""

import pytest
import tf_keras

import rewriter
from models import MODELS


def merged_paths(model):
    return [each.path for each in rewriter.merged_layers(model)]


def test_what_the_plan_says_is_done():
    """Selectors, families and pairs that were found are in it."""
    model = MODELS["nested"]()
    plan = rewriter.plan(model, exclude="inner/*")
    assert rewriter.rewrite(model, plan=plan) is model
    assert merged_paths(model) == [each.path for each in plan.merges] == ["last"]
    convolution = tf_keras.Sequential([tf_keras.layers.Conv1D(2, 3, input_shape=(5, 2))])
    rewriter.rewrite(convolution, plan=rewriter.plan(convolution, layers="all"))
    assert merged_paths(convolution) == ["conv1d"]


def test_a_plan_of_something_else_is_refused():
    """Of another model, or of the model before it was changed; and nothing is changed."""
    model, other = MODELS["nested"](), MODELS["nested"]()
    plan = rewriter.plan(model)
    with pytest.raises(rewriter.ModelError, match="says the same of another layer"):
        rewriter.rewrite(other, plan=plan)
    rewriter.rewrite(model, include="last")
    with pytest.raises(rewriter.ModelError, match=r"last: the plan .* says merge, .* says skip, already merged"):
        rewriter.rewrite(model, plan=plan)
    assert merged_paths(other) == []
    assert merged_paths(model) == ["last"]


def test_a_plan_has_the_selectors_in_it():
    """To give both is an error, which says where they belong."""
    model = MODELS["nested"]()
    with pytest.raises(rewriter.SelectorError, match="give include, exclude, layers, discover to rewriter"):
        rewriter.rewrite(model, plan=rewriter.plan(model), exclude="last")
