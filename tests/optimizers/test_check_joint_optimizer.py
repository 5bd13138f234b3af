"""What ``rewriter.testing.check_joint_optimizer`` finds in a rule of a user's own."""

import numpy as np
import pytest
import tensorflow as tf

import joint_rules
import rewriter
from rewriter.testing import check_joint_optimizer
from rules import Rule, Short, Step, rule
from short_cases import cases

OF_THE_SAMPLES = [joint_rules.GradientCentralization, joint_rules.AdaptiveClipping, joint_rules.Lamb]
RIGHT = [Step, Rule, rewriter.JointMomentum, *OF_THE_SAMPLES]


@pytest.mark.parametrize("cls", cases(RIGHT, {Rule, rewriter.JointMomentum}), ids=lambda cls: cls.__name__)
def test_what_is_right(cls, caplog):
    """The rules of the package, of the samples, and of the tests. Nothing is said of layers that are not the user's."""
    check_joint_optimizer(cls)
    # TensorFlow counts the traces of all tests, and may warn of them in any.
    assert not [message for message in caplog.messages if "triggered tf.function retracing" not in message]


def test_settings_are_passed_on():
    """Where a rule has arguments without a default, or others are to be checked."""

    class Asking(Step):
        def __init__(self, rho, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.rho = rho

    check_joint_optimizer(Asking, rho=0.5)
    check_joint_optimizer(rewriter.JointMomentum, nesterov=True, average="outgoing", weight_decay=0.1)


def test_a_rule_that_diverges():
    """Its rate is the reason, and nothing that it keeps."""

    def descend(self, g, w, layout):  # noqa: ARG001
        w.assign_sub(tf.cast(self.learning_rate, w.dtype) * g)

    step = rule(update_layer=descend)
    check_joint_optimizer(step)
    with pytest.raises(AssertionError, match=r"Mine diverges on the model of this check.*Give it a smaller rate: "):
        check_joint_optimizer(step, learning_rate=1e30)


def test_the_method_that_is_written_is_named():
    """Of a rule on all layers at once that is not ``update_layer``."""
    for body, what in {
        lambda self, layers: layers[0].gradient: "returned a tensor and assigned nothing",
        lambda self, layers: None: "assigned nothing",
    }.items():
        with pytest.raises(AssertionError, match=rf"Mine\.update_layers {what}"):
            check_joint_optimizer(rule(update_layers=body))


def test_what_is_no_rule():
    with pytest.raises(TypeError, match=r"expected a subclass of rewriter\.JointOptimizer, got <"):
        check_joint_optimizer(tf.keras.optimizers.Adam)
    with pytest.raises(TypeError, match=r"expected a subclass of rewriter\.JointOptimizer, got <"):
        check_joint_optimizer(Step())


def test_a_constructor_that_forgets_its_parent():
    """Whatever it sets first; what its own settings raise is its own affair."""

    def mute(self):
        pass

    def setting(self, rho=0.5):
        self.rho = rho

    def rate(self):
        self.lr = 0.5

    def variable(self):
        self.count = self.add_variable(())

    for forgetful in (mute, setting, rate, variable):
        with pytest.raises(AssertionError, match=r"Mine.__init__ must call super\(\).__init__\(learning_rate,"):
            check_joint_optimizer(rule(__init__=forgetful))

    def own(self, rho):
        Step.__init__(self)
        self.rho = rho
        if rho < 0:
            raise ValueError("rho is less than nothing")
        "".nothing_that_a_text_has  # noqa: B018

    with pytest.raises(ValueError, match="rho is less than nothing"):
        check_joint_optimizer(rule(__init__=own), rho=-1)
    with pytest.raises(AttributeError, match="'str' object has no attribute"):
        check_joint_optimizer(rule(__init__=own), rho=1)


def test_an_extent_that_is_none_is_said_and_nothing_else():
    with pytest.raises(ValueError, match=r"^the extent of slot 'mean' of Mine"):
        check_joint_optimizer(rule(slots={"mean": "row"}))


def test_a_learning_rate_that_is_not_passed_on():
    """The default would train in its stead, and be saved."""

    class Dropping(Step):
        def __init__(self, learning_rate=0.5, **kwargs):  # noqa: ARG002
            super().__init__(**kwargs)

    class Heir(Dropping):
        def __init__(self, learning_rate=0.25, rho=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.rho = rho

    for cls in (Dropping, Heir):
        with pytest.raises(AssertionError, match=r"does not pass its learning rate on: super\(\)"):
            check_joint_optimizer(cls)

    class Optional(Step):
        def __init__(self, learning_rate=None, **kwargs):
            super().__init__(learning_rate or 0.01, **kwargs)

    check_joint_optimizer(Optional)
    assert Optional().learning_rate == np.float32(0.01)

    class Scaled(Step):
        def __init__(self, learning_rate=0.5, scale=0.02, **kwargs):
            super().__init__(learning_rate * scale, **kwargs)
            self.scale = scale

    class Fixed(Step):
        def __init__(self, rho=0.5):
            super().__init__()
            self.rho = rho

    with pytest.raises(AssertionError, match="Scaled cannot be made again from its settings: learning_rate is"):
        check_joint_optimizer(Scaled)
    check_joint_optimizer(Fixed)
    assert Scaled().learning_rate == Fixed().learning_rate == np.float32(0.01)


def test_a_variable_that_no_file_would_hold():
    """Of the whole optimizer: what add_variable makes is saved, and carried when layers are merged."""

    class Counting(Step):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.count = self.made()

        def made(self):
            return self.add_variable((), name="count")

    check_joint_optimizer(Counting)
    lost = type("Counting", (Counting,), {"made": lambda _: tf.Variable(0.0)})
    with pytest.raises(AssertionError, match=r"Counting.count is a tf.Variable of its own, .*add_variable\(shape, na"):
        check_joint_optimizer(lost)

    class Annealed(Step):
        def __init__(self, learning_rate=0.1, rho=0.5, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.rho = rho

    check_joint_optimizer(Annealed, rho=tf.Variable(0.25))  # a setting, which files hold as a number
    assert Annealed(rho=tf.Variable(0.25)).get_config()["rho"] == 0.25


@pytest.mark.parametrize("hook", ["update_layer", "update_other"])
def test_a_rule_that_returns_what_it_should_assign(hook):
    """It would train nothing, and fit would say nothing; one that assigns may return what it likes."""

    def check(body):
        check_joint_optimizer(rule(**{hook: body}))

    with pytest.raises(AssertionError, match=rf"Mine.{hook} returned a tensor and assigned nothing: .* did not move"):
        check(lambda self, g, w, *layout: w - g)
    check(lambda self, g, w, *layout: w.assign_sub(g))
    check(lambda self, g, w, *_: tf.norm(w.assign_sub(g) if w is not None else g))


def test_a_rule_that_does_nothing():
    """Of whole layers that is a mistake; other variables may be meant to stand still."""
    with pytest.raises(AssertionError, match=r"Mine.update_layer assigned nothing: dense.*/augmented_kernel:0 of"):
        check_joint_optimizer(rule(update_layer=lambda self, g, w, layout: None))
    check_joint_optimizer(rule(update_other=lambda self, g, w: None))


def test_a_count_that_python_keeps():
    """It stands still once the step is traced."""

    def update_layer(self, gradient, variable, layout):  # noqa: ARG001
        self.t += 1
        variable.assign_sub(gradient / self.t)

    with pytest.raises(AssertionError, match=r"Mine changed self.t to \d+ in a step\. A step is traced, so Python"):
        check_joint_optimizer(rule(update_layer=update_layer, t=0))


def test_a_state_that_python_keeps():
    """In a list, say: traced, it stands still; saved and read again, it is gone."""

    def in_graph(self, gradient, variable, layout):  # noqa: ARG001
        self.__dict__.setdefault("seen", []).append(1)
        variable.assign_sub(gradient * 0.1 * len(self.seen))

    with pytest.raises(AssertionError, match="trains differently in a graph and eagerly, by up to"):
        check_joint_optimizer(rule(update_layer=in_graph))

    def lost(self, gradient, variable, layout):
        with tf.init_scope():
            if "scales" not in self.__dict__:
                self.__dict__["scales"] = {units: tf.Variable(1.0) for units in (2, 4)}
        scale = self.scales[layout.units]
        scale.assign(scale * 0.5)
        variable.assign_sub(gradient * scale)

    with pytest.raises(AssertionError, match="trains differently after it is saved and read again"):
        check_joint_optimizer(rule(update_layer=lost))


def test_settings_that_a_file_would_lose():
    """A get_config of one's own that forgets those of the base."""

    with pytest.raises(AssertionError, match=r"Short cannot be made again from its settings: learning_rate is 0\.3"):
        check_joint_optimizer(Short, learning_rate=0.3)


def test_a_step_that_fails_says_at_which_layer():
    with pytest.raises(rewriter.OptimizerError, match=r"Mine.update_layer failed at dense.*kernel rows 0:3, bias 3:4"):
        check_joint_optimizer(rule(update_layer=lambda self, g, w, layout: w.assign_sub(g[1:])))
