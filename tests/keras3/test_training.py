"""Models of Keras 3, on each backend in a process of its own."""

import sys

import pytest

from processes import run_script

pytestmark = pytest.mark.backends

REFUSED = ["a row of W*", "cannot be given LoRA weights: call rewriter.split(model)", "cannot be quantized"]
MERGED = {"subclassed": 3, "shared": 3, "attention": 5, "convolutions": 3, "recurrent": 3}
ROUNDING = 3e-5  # of float32, over the steps of a training


def test_training_goes_on_bit_for_bit(on_backend):
    """Adam, rewritten after an epoch, through a file, and split; joint momentum as in NumPy.

    XLA, in which JAX trains, may round what it fuses in another way.
    """
    said = on_backend("keras3_models")
    models = said["models"]
    assert {name: each["merged"] for name, each in models.items()} == MERGED
    assert all(each["same"] for each in models.values())
    assert max(each["difference"] for each in models.values()) <= (1e-6 if said["backend"] == "jax" else 0)
    assert said["joint"] <= 1e-6


def test_files_frozen_layers_and_biases_without_decay(on_backend):
    """Of nested models and of those that are not compiled; thawed however it is done; excluded by their names."""
    said = on_backend("keras3_lives")
    assert all(said["read"].values()), said["read"]
    assert all(said["resumed"].values()), said["resumed"]
    assert len(said["refused"]) == len(REFUSED)
    assert all(of_it in text for of_it, text in zip(REFUSED, said["refused"], strict=True)), said["refused"]
    assert said["second"]
    assert "load_model(path, compile=False) reads the rest" in said["short"]
    assert said["failed"]
    for how, (why, same, moved, is_rewritten) in said["changed in standard form"].items():
        assert "cannot be merged again at the end of standard_form" in why, how
        assert "stays in standard form" in why
        assert (same, moved, is_rewritten) == (True, False, False), how
    is_read, refused = said["centered in h5"]
    assert is_read
    assert "not written" in refused
    assert "Use .keras" in refused
    assert all(said["thawed"].values()), said["thawed"]
    errors = {choice: max(of_it) for choice, of_it in said["decayed"].items()} | {"Nadam": said["nadam"]}
    assert {choice: error for choice, error in errors.items() if error > 1e-6} == {}


def test_what_is_left_as_it_was_and_what_is_seen(on_backend):
    """States that a run of the check changes; layers that are called in training, whatever a part is told."""
    said = on_backend("keras3_states")
    assert len(said["nothing"]) == 1
    assert said["left out"]
    assert said["left"] == [True, True, True]
    assert said["refuses"]
    assert said["own function"] == [0.0, [1.0, 1.0]]
    assert said["by name"]
    assert said["watched"]
    assert said["rows"] == [[3, 3, 3], [3, 3, 3]]


def test_centered_training_is_that_of_numpy(on_backend):
    """Under each optimizer, by fit and in loops, with accumulated and scaled gradients; a file has all state."""
    errors = on_backend("keras3_centered")["errors"]
    assert {name: error for name, error in errors.items() if error > ROUNDING} == {}
    assert {name: error for name, error in errors.items() if name.startswith("resumed") and error} == {}


def test_what_layers_see(on_backend):
    """Of each family the means of what flows into the kernel, over all positions that no mask leaves out."""
    errors = on_backend("keras3_statistics")["errors"]
    assert {name: error for name, error in errors.items() if error > 1e-6} == {}


def test_several_devices_train_as_one(tmp_path):
    """On JAX, by data and by model; a map that names kernels lays augmented ones out too."""
    ways = run_script("keras3_devices", "jax", tmp_path, python=[sys.executable])["ways"]
    assert {name: error for name, (error, _) in ways.items() if error > ROUNDING} == {}
    divided, whole = [None, "model"], [[], [None], [None, None]]
    specs = {name: specs for name, (_, specs) in ways.items()}
    assert specs["centered, all kernels"] == [divided, divided]
    assert specs["joint, one layer"][0] in whole
    assert specs["joint, one layer"][1] == divided
    assert all(
        each in whole for each in specs["centered, rows"]
    )  # of nine or seventeen rows no four devices have equal parts


def test_mirrored_devices_train_as_one(tmp_path):
    """On TensorFlow, rewritten outside of the strategy's scope; what layers see is summed over the devices."""
    said = run_script("keras3_mirrored", "tensorflow", tmp_path, python=[sys.executable])
    assert {name: error for name, error in said["errors"].items() if error > ROUNDING} == {}
    assert all(said["same"].values())


def test_two_workers_of_torch_train_as_one(tmp_path, torch_python):
    """What torch made of the weights before they were replaced refuses to go on with them."""
    said = run_script("keras3_workers", "torch", tmp_path, python=[torch_python])
    assert {name: error for name, error in said["errors"].items() if error > ROUNDING} == {}
    assert said["same"]
    of_optimizer, of_wrapper, of_inside, of_own = said["said"]
    assert "this SGD of torch holds weights that rewriter has replaced since" in of_optimizer
    assert "this DistributedDataParallel of torch holds weights" in of_wrapper
    assert of_inside == of_optimizer
    assert of_own == ""
    before, merged, apart = said["listed"]
    assert before == apart
    assert merged == [
        6,
        8,
    ]  # torch's own layer has two; of the model each kernel and its means, in two lists


def test_rules_on_whole_layers_are_those_of_numpy(on_backend):
    """Compiled, in a graph and eagerly; a file has all their state."""
    said = on_backend("keras3_rules")
    assert {name: end for name, (before, end) in said["completed"].items() if not end < before} == {}
    errors = said["errors"]
    # Eigenvectors of near eigenvalues are not as exact as float32.
    assert {name: error for name, error in errors.items() if error > (1e-3 if "SOAP" in name else ROUNDING)} == {}
    assert {name: error for name, error in errors.items() if name.startswith("resumed") and error} == {}


def test_moments_are_those_of_the_gradients_at_each_position(on_backend):
    """Of each family, compiled and eagerly; with gradients accumulated, and a loss scale taken out."""
    errors = on_backend("keras3_moments")["errors"]
    assert {name: error for name, error in errors.items() if error > 1e-5} == {}
