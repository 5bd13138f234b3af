"""What is wrong with a rule of a user's own is said when it is made or, where it fails, of the layer it fails at."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from models import fit
from rules import Short, Step, rule


def model(rule):
    """Train a model a little under a rule."""
    built = tf_keras.Sequential([layers.InputLayer((5,)), layers.Dense(8, name="first"), layers.Dense(3, name="last")])
    built.compile("sgd", "mse")
    rewriter.rewrite(built, optimizer=rule)
    fit(built)
    return built


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"build": lambda self, var_list: None}, "must not override build, which makes the slots: name them"),
        ({"update_step": lambda self, g, w: None}, "must not override update_step, .*: write update_layer for whole"),
        (
            {"update_layer": lambda self, gradient, variable: None},
            r"Mine.update_layer must take \(self, gradient, variable, layout\), .* takes \(self, gradient, variable\)",
        ),
        ({"update_other": lambda self, g: None}, r"Mine.update_other must take \(self, gradient, variable\)"),
        ({"initial_slot": lambda self, name, shape: 0}, r"initial_slot must take \(self, name, variable, shape\)"),
    ],
)
def test_a_class_that_cannot_be_a_rule(methods, said):
    """As soon as it is written."""
    with pytest.raises(TypeError, match=said):
        rule(**methods)
    rule(update_layer=lambda self, *anything, **more: None, update_other=lambda self, g, w, scale=1: None)


def test_a_condition_of_python_says_what_stands_for_it():
    def every_other(self, gradient, variable, layout):
        del layout
        if self.iterations % 2 == 0:
            variable.assign_sub(gradient)

    with pytest.raises(rewriter.OptimizerError, match=r"is traced, tf\.cond stands for an if\."):
        model(rule(update_layer=every_other)())


def test_a_function_among_the_settings_of_muon_says_to_give_paths(tmp_path):
    built = tf_keras.Sequential([layers.InputLayer((5,)), layers.Dense(8, name="first"), layers.Dense(3, name="last")])
    rewriter.rewrite(built, rewriter.Muon(exclude=lambda layer: layer.name == "last"))
    with pytest.raises(
        rewriter.FileError, match="keeps a function as exclude, which no file holds; give paths"
    ) as error:
        rewriter.save_model(built, tmp_path / "model.keras")
    assert "**kwargs" not in str(error.value)


@pytest.mark.parametrize(
    ("initial", "gave"),
    [
        (lambda shape: None, "it gave None"),
        (lambda shape: 1.0, r"it gave float64 of shape \(\)"),
        (lambda shape: tf.ones(7), r"it gave float32 of shape \(7,\)"),
        (lambda shape: tf.ones(shape, "float64"), r"it gave float64 of shape \(8,\)"),
    ],
)
def test_a_slot_that_starts_with_something_else(initial, gave):
    """A number for each weight in the place of one a unit would train on, and nobody would see it."""
    mine = rule(slots={"m": "unit"}, initial_slot=lambda self, name, variable, shape: initial(shape))
    said = r"Mine.initial_slot must give float32 of shape \(8,\) for the slot 'm' of first/augmented_kernel of shape "
    with pytest.raises(rewriter.OptimizerError, match=f"{said}.*{gave}"):
        model(mine())
    model(rule(slots={"m": "unit"}, initial_slot=lambda self, name, variable, shape: np.full(shape, 0.5))())
    model(rule(slots={"m": "layer"}, initial_slot=lambda self, name, variable, shape: 0.5)())


def test_a_rule_that_fails_says_at_which_layer():
    """With its rows and its slots, in the graph of fit and outside."""
    mine = rule(
        slots={"rows": "incoming"},
        update_layer=lambda self, gradient, variable, layout: variable.assign_sub(
            gradient / self.slot("rows", variable)
        ),
    )
    said = (
        r"Mine.update_layer failed at first/augmented_kernel of shape \(6, 8\), kernel rows 0:5, bias 5:6, "
        r"slots rows \(6,\): \w+: .*(Dimensions must be equal|Incompatible shapes|must be broadcastable)"
    )
    with pytest.raises(rewriter.OptimizerError, match=said):
        model(mine())
    built = model(Step())
    eager = mine()
    with pytest.raises(rewriter.OptimizerError, match=said):
        eager.apply_gradients([(tf.zeros((6, 8)), built.layers[0].augmented_kernel)])
    unknown = rule(slots={"m": "unit"}, update_layer=lambda self, g, w, layout: self.slot("m", tf.Variable(1.0)))
    with pytest.raises(rewriter.OptimizerError, match=r"first.*has no slot 'm' of Mine/Variable:0: it was not built"):
        model(unknown())


def test_a_rule_that_returns_its_step_is_warned_of():
    """As one of optax does, and here would train nothing; what assign returns is no step."""
    with pytest.warns(UserWarning, match=r"Mine.update_layer returned a tensor, which is ignored: a rule assigns"):
        model(rule(update_layer=lambda self, gradient, variable, layout: -0.1 * gradient)())
    with pytest.warns(UserWarning, match=r"Mine.update_layers returned a tensor, which is ignored"):
        model(rule(update_layers=lambda self, layers: [layer.gradient for layer in layers])())
    model(rule(update_layer=lambda self, gradient, variable, layout: variable.assign_sub(0.1 * gradient))())


def test_a_slot_of_a_parent_is_named_again():
    """The slots of JointMomentum can be, whatever it averages."""

    class Parent(Step):
        slots = {"theirs": "unit"}

        def update_layer(self, gradient, variable, layout):  # noqa: ARG002
            self.slot("theirs", variable).assign(gradient[0])

    class Forgetful(Parent):
        slots = {"mine": "unit"}

    with pytest.raises(rewriter.OptimizerError, match=r"Parent has it: .*slots = \{\*\*Parent.slots, ...\}"):
        model(Forgetful())

    class Further(rewriter.JointMomentum):
        slots = {**rewriter.JointMomentum.slots, "mine": "unit"}

    class Asking(rewriter.JointMomentum):
        def __init__(self, learning_rate=0.1, extent="unit", **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.extent = extent

        @property
        def slots(self):
            return {**super().slots, "mine": self.extent}

    for further, size in {Further(): 8, Asking(average="outgoing"): 6}.items():
        model(further)
        assert (further.momentums[0].shape, further.mine[0].shape) == ((size,), (8,))
    assert rewriter.JointMomentum.slots == {"momentums": "unit"}


def test_settings_that_a_file_would_lose(tmp_path):
    """A get_config of one's own that forgets those of the base is refused before anything is written."""

    class Whole(Short):
        def get_config(self):
            return {"learning_rate": float(self.learning_rate), "weight_decay": self.weight_decay, "rho": self.rho}

    built = model(Short(0.3, weight_decay=0.25))
    said = "Short cannot be made again from its settings: learning_rate is 0.3.*, and 0.1.* in what get_config"
    with pytest.raises(rewriter.FileError, match=said):
        rewriter.save_model(built, tmp_path / "m.keras")
    assert not (tmp_path / "m.keras").exists()
    rewriter.save_model(model(Whole(0.3, weight_decay=0.25)), tmp_path / "m.keras")

    @tf_keras.saving.register_keras_serializable("tests_of_rules")
    class Warm(optimizers.schedules.LearningRateSchedule):
        def __init__(self, after, steps):
            self.after, self.steps = after, np.asarray(steps)

        def __call__(self, step):
            return self.after(step)

        def get_config(self):
            return {"after": self.after, "steps": self.steps}

        @classmethod
        def from_config(cls, config):
            return cls(optimizers.schedules.deserialize(config["after"]), config["steps"])

    warm = Warm(optimizers.schedules.ExponentialDecay(0.5, 10, 0.5), [1, 2])
    model(Step(warm)).optimizer.require_saveable()


def test_settings_that_are_tensors(tmp_path):
    """Keras would write what kind they are, and not what they hold."""

    @tf_keras.saving.register_keras_serializable("tests_of_tensors")
    class Held(Step):
        def __init__(self, learning_rate=0.1, rho=None, betas=None, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.rho, self.betas = rho, betas

    built = model(Held(rho=tf.constant(0.5), betas=np.array([0.25, 0.75])))
    for name in ("m.keras", "m.h5"):
        rewriter.save_model(built, tmp_path / name)
        again = rewriter.load_model(tmp_path / name).optimizer
        assert (again.rho, list(again.betas)) == (0.5, [0.25, 0.75])


def test_what_is_left_to_gradient_descent_is_named(caplog):
    """A step that suits a rule may be no step for gradient descent; a rule that has its own says nothing."""
    caplog.set_level("WARNING", logger="rewriter")
    for mine, left in {Step: ["conv", "norm"], rule(update_other=lambda self, g, w: None): []}.items():
        caplog.clear()
        built = tf_keras.Sequential(
            [
                layers.InputLayer((5, 5, 1)),
                layers.Conv2D(2, 3, name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        built.compile("sgd", "mse")
        rewriter.rewrite(built, optimizer=mine())
        said = [line.rpartition(": ")[2] for line in caplog.messages if "has no update_other" in line]
        assert said == ([", ".join(left)] if left else [])


def test_names_that_are_no_list():
    """Keras would take each letter of a string for a pattern, and leave out every variable."""
    with pytest.raises(TypeError, match=r"var_names is a list of patterns, as \['bias'\]"):
        Step().exclude_from_weight_decay(var_names="bias")


def test_the_optimizer_of_the_standard_form_is_no_rule():
    """It would find no layers there."""
    built = model(rule(standard_optimizer=lambda self: Step())())
    with pytest.raises(rewriter.OptimizerError, match=r"Mine.standard_optimizer must return an optimizer of tf_keras"):
        rewriter.split(built)


def test_an_export_says_of_a_rule_what_is_true_of_it(caplog, tmp_path):
    """SGD has its learning rate and not its momentum, unless it says so itself."""
    caplog.set_level("INFO", logger="rewriter")

    class Heavy(Step):
        slots = {"velocity": "full"}

        def __init__(self, learning_rate=0.1, momentum=0.5, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.momentum = momentum

    class Told(Heavy):
        def standard_optimizer(self):
            return super().standard_optimizer(momentum=self.momentum)

    class Other(Heavy):
        def standard_optimizer(self):
            return optimizers.Adam(0.5)

    for mine, said in {
        Heavy: "Heavy replaced by SGD of the same learning rate",
        Told: "Told replaced by SGD of the same learning rate and momentum",
        Other: "Other replaced by Adam",
    }.items():
        built = model(mine())
        caplog.clear()
        rewriter.export(built, tmp_path / "m.keras", overwrite=True)
        assert f"optimizer: {said}" in caplog.messages
        left = f"slots: velocity left behind; {mine.__name__}.standard_optimizer says which optimizer goes on, and how"
        assert left in caplog.messages


def test_a_rule_that_is_not_registered(tmp_path, caplog):
    """Files of two formats know it by its bare name, and whoever writes them is told what reads them."""
    caplog.set_level("WARNING", logger="rewriter")
    built = model(Step())
    for suffix, warned in {".keras": 0, ".h5": 1, "": 1}.items():
        caplog.clear()
        rewriter.save_model(built, tmp_path / f"m{suffix}")
        assert sum("Step is not registered, and so m" in message for message in caplog.messages) == warned
    read = rewriter.load_model(tmp_path / "m.h5", custom_objects={"Step": Step})
    assert type(read.optimizer) is Step


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_a_rule_that_is_not_imported(tmp_path, run, suffix):
    """Each format says the same of it, and what to import."""
    registered = tf_keras.saving.register_keras_serializable("lost")(type("Lost", (Step,), {}))
    rewriter.save_model(model(registered()), tmp_path / f"m{suffix}")
    del tf_keras.utils.get_custom_objects()["lost>Lost"]
    code, _, err = run("inspect", tmp_path / f"m{suffix}")
    assert code == 2
    assert "of your own, " in err
    assert "Lost, that is not known here" in err
    assert "give --import" in err
