"""Weight decay under kept optimizers: what was excluded stays excluded, row by row."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import optimizers

import rewriter
from arrays import bits
from models import MODELS, fit
from rules import Rule, rewritten


def excluding(model, names=None, variables=None, **settings):
    """An AdamW that decays fast, told what to leave out as its users do before training."""
    optimizer = optimizers.AdamW(0.01, weight_decay=0.5, **settings)
    optimizer.exclude_from_weight_decay(var_list=variables and variables(model), var_names=names)
    return optimizer


def pair(**excluded):
    models = []
    for _ in range(2):
        tf_keras.backend.clear_session()  # for the same layer names
        tf_keras.utils.set_random_seed(5)
        model = MODELS["whole_vectors"]()
        model.compile(excluding(model, **excluded), "mse", run_eagerly=True)
        models.append(model)
    return models


def standard_weights(model):
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


@pytest.mark.parametrize(
    "excluded",
    [
        {"names": ["bias"]},
        {"names": ["bias:0$"]},
        {"names": ["kernel"]},
        {"names": ["dense_1/"]},
        {"variables": lambda model: [model.layers[0].bias, model.layers[1].kernel]},
        {"names": [], "variables": lambda model: [model.layers[0].kernel, model.layers[0].bias]},
    ],
    ids=["bias", "end of name", "kernel", "layer", "variables", "both of a layer"],
)
@pytest.mark.parametrize("trained", [False, True], ids=["new", "with state"])
def test_exclusions_go_on(excluded, trained):
    """Patterns and variables that were excluded leave out the same rows, there and back, bit for bit."""
    original, model = pair(**excluded)
    if trained:
        fit(original)
        fit(model)
    rewriter.rewrite(model, optimizer="keep")
    for _ in range(2):
        fit(original)
        fit(model)
        assert standard_weights(model) == standard_weights(original)
    rewriter.split(model)
    assert type(model.optimizer) is optimizers.AdamW
    fit(original)
    fit(model)
    assert standard_weights(model) == standard_weights(original)


def test_exclusions_go_on_when_the_rest_is_merged():
    """An optimizer that leaves out rows is known for what it is, and keeps doing so."""
    original, model = pair(variables=lambda model: [model.layers[0].bias, model.layers[1].bias])
    rewriter.rewrite(model, optimizer="keep", include="dense")
    for each in (original, model):
        fit(each)
    rewriter.rewrite(model, optimizer="keep")
    for each in (original, model):
        fit(each)
    assert standard_weights(model) == standard_weights(original)


def test_exclusions_survive_a_failed_rewrite(monkeypatch):
    """After a rollback the same variables are excluded, by an optimizer of the same class."""
    original, model = pair(variables=lambda model: [model.layers[0].bias])
    monkeypatch.setattr("rewriter.optimizers.state.slots.move", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rewriter.rewrite(model, optimizer="keep")
    assert type(model.optimizer) is optimizers.AdamW
    fit(original)
    fit(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]


@pytest.mark.parametrize("how", ["a failed second rewrite", "a split of a part"])
def test_exclusions_of_other_layers_stay(how, monkeypatch):
    """Of those merged before, when another rewrite fails; of those still merged, when a part is split."""
    original, model = pair(variables=lambda model: [each.bias for each in model.layers[:2]])
    first = model.layers[0]
    if how == "a split of a part":
        rewriter.rewrite(model, "keep")
        part = tf_keras.Sequential([first])
        part.build((None, first.augmented_kernel.shape[0] - 1))
        rewriter.split(part)
    else:
        rewriter.rewrite(model, "keep", include=lambda layer: layer is first)
        monkeypatch.setattr("rewriter.optimizers.state.slots.move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rewriter.rewrite(model, "keep")
        monkeypatch.undo()
    for each in (original, model):
        fit(each)
    assert standard_weights(model) == standard_weights(original)


def test_joint_momentum_takes_exclusions_too():
    """Its kernel rows decay unless the kernel is excluded; what it excludes may be said before the rewrite."""
    _, model = pair()
    joint = rewriter.JointMomentum(0.5, 0.0, weight_decay=0.5)
    joint.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["dense_2"])
    rewriter.rewrite(model, optimizer=joint)
    first, second, last = model.trainable_variables
    before = [variable.numpy() for variable in (first, second, last)]
    joint.apply_gradients([(variable * 0, variable) for variable in (first, second, last)])
    assert last.name == "dense_2/kernel:0"
    assert [bits(first.numpy()), bits(last.numpy())] == [bits(before[0]), bits(before[2])]
    assert bits(second.numpy()[-1]) == bits(before[1][-1])
    assert bits(second.numpy()[:-1]) == bits(before[1][:-1] * np.float32(0.75))


def test_what_is_left_out_of_weight_decay():
    """An augmented kernel is left out whole, kernel and bias by name or as views; another tensor is refused."""
    model = rewritten(optimizer=Rule())
    first, last = model.layers[0].augmented_kernel, model.layers[2].augmented_kernel
    values = [first.numpy(), last.numpy()]
    still = Rule(0.5, weight_decay=0.5, decay_bias=True)
    with pytest.raises(ValueError, match=r"no view of a merged layer\. Give layer\.kernel or layer\.bias as it is"):
        still.exclude_from_weight_decay([model.layers[0].kernel * 1])
    still.exclude_from_weight_decay([first], var_names=["bias"])
    still.apply_gradients([(tf.zeros_like(first), first), (tf.zeros_like(last), last)])
    assert bits(first.numpy()) == bits(values[0])
    assert bits(last.numpy()[-1]) == bits(values[1][-1])
    assert bits(last.numpy()[:-1]) == bits(values[1][:-1] * np.float32(0.75))


@pytest.mark.parametrize("decay_bias", [False, True])
def test_what_weight_decay_leaves_out_goes_there_and_back(decay_bias):
    """From SGD to joint momentum, and to the SGD after a split: the same rows, and no bias more than before."""
    model = MODELS["whole_vectors"]()
    sgd = optimizers.SGD(0.5, 0.5, weight_decay=0.5)
    sgd.exclude_from_weight_decay([model.layers[1].kernel], var_names=["dense_2"])
    model.compile(sgd, "mse")
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    rewriter.rewrite(model)
    model.optimizer.decay_bias = decay_bias
    expected = [0.75, 0.75 if decay_bias else 1, 1, 0.75 if decay_bias else 1, 1]
    for power, change in ((1, None), (2, rewriter.split)):
        if change:
            change(model)
        variables = model.trainable_variables
        model.optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in variables])
        with rewriter.standard_form(model):
            assert [float(weight.flat[0]) for weight in model.get_weights()] == [value**power for value in expected]


LATER = {
    "bias": {"names": ["bias"]},
    "kernel": {"names": ["kernel"]},
    "one bias": {"names": ["dense/bias"]},
    "views": {"variables": lambda model: [model.layers[0].bias, model.layers[1].kernel]},
    "averaged": {"names": ["bias"], "use_ema": True},
}


@pytest.mark.parametrize("told", LATER)
def test_exclusions_told_when_the_model_is_rewritten_already(told):
    """Compiled with such an optimizer the first step raises, and nothing decays; given to rewrite it is honoured."""
    original, model = pair(**LATER[told])
    rewriter.rewrite(model)
    initial = standard_weights(model)
    model.compile(excluding(model, **LATER[told]), "mse", run_eagerly=True)
    with pytest.raises(rewriter.OptimizerError, match=r"of dense/augmented_kernel.*rewrite\(model, optimizer=\.\.\.\)"):
        fit(model)
    assert standard_weights(model) == initial
    rewriter.rewrite(model, optimizer="keep")  # as the error says
    for change in (None, rewriter.split):
        if change:
            change(model)
        fit(original)
        fit(model)
        assert standard_weights(model) == standard_weights(original)


@pytest.mark.parametrize("given_to", ["compile", "rewrite"])
def test_the_name_of_an_augmented_kernel_means_all_its_rows(given_to):
    """As the model's variables are called now; the pattern stays that after a split, where it finds nothing."""
    original, model = pair(names=["dense/"])
    rewriter.rewrite(model)
    optimizer = excluding(model, names=["dense/augmented_kernel"])
    if given_to == "compile":
        model.compile(optimizer, "mse", run_eagerly=True)
    else:
        rewriter.rewrite(model, optimizer=optimizer)
    for _ in range(2):
        fit(original)
        fit(model)
        assert standard_weights(model) == standard_weights(original)
    rule = rewriter.SOAP(0.01, weight_decay=0.1)
    rule.exclude_from_weight_decay(var_names=["dense/augmented_kernel"])
    rewriter.rewrite(model, optimizer=rule)
    found = [(each.layer.augmented_kernel, each.layout) for each in rewriter.merged_layers(model)]
    decayed = [rule.decayed_parts(*each) for each in found]
    assert decayed[0] == ()
    assert all(each == ("kernel",) for each in decayed[1:])


def test_a_bias_that_is_left_out_is_no_name(caplog):
    original, model = pair(variables=lambda model: [model.layers[0].bias])
    rewriter.rewrite(model)
    rewriter.rewrite(model, optimizer=excluding(model, variables=lambda model: [model.layers[0].bias]))
    fit(original)
    fit(model)
    assert standard_weights(model) == standard_weights(original)
    assert "goes by names" not in caplog.text


@pytest.mark.parametrize("scaled", [False, True], ids=["bare", "in a loss scale"])
def test_an_optimizer_with_exclusions_is_given_to_a_rewritten_model(scaled):
    """As to a plain one, be it given bare or wrapped, and trained by a loop of one's own."""
    results = []
    for rewritten_before in (False, True):
        _, model = pair()
        if rewritten_before:
            rewriter.rewrite(model)
        optimizer = excluding(model, names=["bias"])
        if scaled:
            optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False, initial_scale=1)
        rewriter.rewrite(model, optimizer=optimizer)
        fit(model)
        results.append(standard_weights(model))
    assert results[0] == results[1]


def test_the_first_step_of_a_loop_raises_before_anything_decays():
    """Eagerly, where the layers before the one that raises would have decayed."""
    model = MODELS["whole_vectors"]()
    rewriter.rewrite(model)
    optimizer = excluding(model, names=["dense_1/bias", "dense_2/kernel"])
    before = [bits(weight) for weight in model.get_weights()]
    with pytest.raises(
        rewriter.OptimizerError, match=r"leaves out bias\. These are now rows of dense_1/augmented_kernel"
    ):
        optimizer.apply_gradients([(tf.zeros_like(each), each) for each in model.trainable_variables])
    assert [bits(weight) for weight in model.get_weights()] == before
    assert optimizer.iterations.numpy() == 0


def test_what_need_not_raise_does_not():
    """Without decay, with a pattern of whole layers, or told of augmented kernels, Keras's own optimizer does right."""
    model = MODELS["whole_vectors"]()
    rewriter.rewrite(model)
    for patterns, weight_decay in ((["bias"], None), (["dense_1/"], 0.5), (["augmented_kernel"], 0.5)):
        optimizer = optimizers.Adam(0.01, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay(var_names=patterns)
        optimizer.build(model.trainable_variables)
        assert type(optimizer) is optimizers.Adam


def test_exclusions_are_said_again_of_a_model_that_was_read(tmp_path):
    """No file says them; the optimizer that is given takes over the state of the one that was read."""
    original, model = pair(names=["bias"])
    rewriter.rewrite(model, optimizer="keep")
    for each in (original, model):
        fit(each)
    rewriter.save_model(model, tmp_path / "decayed.keras")
    model = rewriter.load_model(tmp_path / "decayed.keras")
    read = model.optimizer
    optimizer = type(read).from_config(read.get_config())
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    rewriter.rewrite(model, optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    optimizer.set_weights(read.variables)
    fit(original)
    fit(model)
    assert standard_weights(model) == standard_weights(original)


@pytest.mark.filterwarnings("error:.* lost,")
def test_exclusions_are_said_again_of_a_plain_model_that_was_read(tmp_path):
    """The optimizer is given its state before, and nothing is lost."""
    original, model = pair(names=["bias"])
    for each in (original, model):
        fit(each)
    model.save(tmp_path / "decayed.keras")
    model = rewriter.load_model(tmp_path / "decayed.keras")
    read = model.optimizer
    optimizer = type(read).from_config(read.get_config())
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    optimizer.set_weights(read.variables)
    rewriter.rewrite(model, optimizer=optimizer)
    fit(original)
    fit(model)
    assert standard_weights(model) == standard_weights(original)


def test_a_state_of_as_many_steps_is_not_taken_for_that_of_the_model():
    """It is another, and the model's own is lost."""
    model = pair()[1]
    fit(model)
    other = type(model.optimizer).from_config(model.optimizer.get_config())
    other.build(model.trainable_variables)
    other.iterations.assign(model.optimizer.iterations)
    with pytest.warns(UserWarning, match=r"state of AdamW?: lost"):
        rewriter.rewrite(model, optimizer=other)
