"""``tf.distribute``: rewritten models are trained on several devices and workers as on one, to rounding."""

import pytest
import tensorflow as tf
import tf_keras

import rewriter
from arrays import bits
from models import MODELS, fit
from processes import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a model trained under ``MirroredStrategy`` and one that was not have to say of each other."""
    return run_script("train_on_two_devices", tmp_path_factory.mktemp("mirrored"))


OUTSIDE = ("warm", "rule", "statistics", "together", "Muon", "KFAC", "quasi-diagonal", "centered", "centered Adam")
CASES = [f"{case} outside" for case in OUTSIDE]
CASES += ["joint inside", "keep inside", "SOAP inside"]


@pytest.mark.parametrize("case", CASES)
def test_two_devices_train_as_one(trained, case):
    """Rewritten inside or outside the scope: the weights of one device, the same on both, slots mirrored, and files."""
    said = trained[case]
    assert said["difference"] <= 1e-5
    assert said["copies"] == [True] * 4
    # Of what a layer sees each replica has a sum of its own; so is kept what all replicas find alike.
    sums = ["SyncOnReadVariable"] if case.startswith(("centered", "warm", "statistics", "KFAC", "quasi")) else []
    assert said["variables"] == ["MirroredVariable", *sums]
    assert said["exported"]
    assert said["resumed"] == 0


def test_the_wrong_scope_is_said():
    """An optimizer or a model that does not belong to the strategy, with what to do."""
    optimizer, *models = run_script("rewrite_in_wrong_scope")
    assert "a JointMomentum that was made outside the tf.distribute strategy of this model; make it inside" in optimizer
    assert len(models) == 3
    assert all("not made in the scope of the tf.distribute strategy that is active here" in said for said in models)


def test_two_workers_train_as_one(tmp_path):
    """The sample: two processes on loopback, exported by the chief, equal to one worker to rounding."""
    assert run_script("two_workers", tmp_path) <= 1e-12
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
