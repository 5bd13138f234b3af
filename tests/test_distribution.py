"""``tf.distribute``: rewritten models are trained on several devices and workers as on one, to rounding."""

import pytest
import tensorflow as tf
import tf_keras

import rewriter
from conftest import bits, run_python
from models import MODELS, fit

# Logical devices are made before TensorFlow starts, so all of it is in processes of its own.
MIRRORED = """
import json, sys
import numpy as np, tensorflow as tf, tf_keras
sys.path.insert(0, sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from models import MODELS, fit
from rules import Rule
import rewriter

def mirrored():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())

def build(optimizer):
    tf_keras.utils.set_random_seed(5)
    model = MODELS["functional"]()
    model.compile(optimizer, "mse")
    return model

def arrays(model):
    with rewriter.standard_form(model):
        return [weight.numpy() for weight in model.weights]

def furthest(model, other):
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(arrays(model), arrays(other)))

def refused(call):
    try:
        call()
    except rewriter.RewriterError as error:
        return str(error)
"""

TRAINED = """
say, folder = {}, sys.argv[2]
sgd = lambda: tf_keras.optimizers.SGD(0.05, momentum=0.75)
joint = lambda: rewriter.JointMomentum(0.05, 0.75, nesterov=True, weight_decay=0.1, use_ema=True)
rule = lambda: Rule(0.05, clipnorm=1.0)
for name, given in {"warm": lambda: None, "joint": joint, "rule": rule, "keep": lambda: "keep"}.items():
    inside = name in {"joint", "keep"}
    single = build(sgd())
    fit(single)
    rewriter.rewrite(single, optimizer=given())
    fit(single, 2)
    strategy = mirrored()
    with strategy.scope():
        model = build(sgd())
        optimizer = given()
    fit(model)
    if inside:
        with strategy.scope():
            rewriter.rewrite(model, optimizer=optimizer)
    else:
        rewriter.rewrite(model, optimizer=optimizer)
    fit(model, 2)
    kernel = model.get_layer("head").augmented_kernel
    copies = [bool(np.all(copy.numpy() == kernel.values[0].numpy())) for copy in kernel.values]
    layouts = [rewriter.layout_of(copy) == rewriter.layout_of(kernel) != None for copy in kernel.values]
    said = say[f"{name} {'inside' if inside else 'outside'}"] = {
        "difference": furthest(model, single),
        "copies": copies + layouts,
        "variables": sorted({type(variable).__name__ for variable in model.optimizer.variables}),
    }
    path = f"{folder}/{name}{inside}.keras"
    rewriter.save_model(model, path)
    rewriter.export(model, f"{folder}/exported.keras", overwrite=True)
    exported = tf_keras.models.load_model(f"{folder}/exported.keras").get_weights()
    said["exported"] = all(np.array_equal(a, b) for a, b in zip(exported, arrays(model)))
    with strategy.scope():
        loaded = rewriter.load_model(path)
    fit(model)
    fit(loaded)
    said["resumed"] = furthest(loaded, model)
    rewriter.split(model)
    fit(model)
print(json.dumps(say))
"""

REFUSED = """
strategy, other = mirrored(), mirrored()
with strategy.scope():
    model = build("sgd")
plain = build("sgd")
say = [refused(lambda: rewriter.rewrite(model, optimizer=rewriter.JointMomentum()))]
with other.scope():
    say.append(refused(lambda: rewriter.rewrite(model)))
    say.append(refused(lambda: rewriter.rewrite(plain)))
rewriter.rewrite(plain)
with other.scope():
    say.append(refused(lambda: rewriter.split(plain)))
print(json.dumps(say))
"""


@pytest.fixture(scope="module")
def trained(pytestconfig, tmp_path_factory):
    """What a model trained under ``MirroredStrategy`` and one that was not have to say of each other."""
    return run_python(MIRRORED + TRAINED, pytestconfig.rootpath / "tests", tmp_path_factory.mktemp("mirrored"))


@pytest.mark.parametrize("case", ["warm outside", "joint inside", "rule outside", "keep inside"])
def test_two_devices_train_as_one(trained, case):
    """Rewritten inside or outside the scope: the weights of one device, the same on both, slots mirrored, and files."""
    said = trained[case]
    assert said["difference"] <= 1e-5
    assert said["copies"] == [True] * 4
    assert said["variables"] == ["MirroredVariable"]
    assert said["exported"]
    assert said["resumed"] == 0


def test_the_wrong_scope_is_said(pytestconfig):
    """An optimizer or a model that does not belong to the strategy, with what to do."""
    optimizer, *models = run_python(MIRRORED + REFUSED, pytestconfig.rootpath / "tests")
    assert "a JointMomentum that was made outside the tf.distribute strategy of this model; make it inside" in optimizer
    assert len(models) == 3
    assert all("not made in the scope of the tf.distribute strategy that is active here" in said for said in models)


def test_two_workers_train_as_one(pytestconfig, tmp_path):
    """The sample: two processes on loopback, exported by the chief, equal to one worker to rounding."""
    script = f"""
import io, json, re, runpy, sys
from contextlib import redirect_stdout
sys.argv = ["two_workers.py", sys.argv[1]]
sys.path.insert(0, {str(pytestconfig.rootpath / "samples")!r})
with redirect_stdout(io.StringIO()) as output:
    runpy.run_path({str(pytestconfig.rootpath / "samples" / "two_workers.py")!r}, run_name="__main__")
print(json.dumps(float(re.search(r"relative: (.*)", output.getvalue()).group(1))))
"""
    assert run_python(script, tmp_path) <= 1e-12
    assert [path.name for path in tmp_path.iterdir()] == ["two_workers.keras"]


def test_one_device_there_and_back_outside_of_its_scope():
    """The variables of a OneDeviceStrategy are plain ones, which must be made in its scope all the same."""
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = MODELS["nested"]()
        model.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    fit(model)
    before = [bits(weight.numpy()) for weight in model.weights]
    rewriter.split(rewriter.rewrite(model))
    assert [bits(weight.numpy()) for weight in model.weights] == before
    fit(rewriter.rewrite(model))
    fit(rewriter.split(model))
