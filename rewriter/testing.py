"""Checks for the tests of your own rules: :func:`check_joint_optimizer`, after scikit-learn's ``check_estimator``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.layout import layout_of
from rewriter.core.log import warned

from .adapters import keras
from .optimizers.joint_optimizer import JointOptimizer
from .optimizers.saved_settings import argument_names
from .rewriting.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_joint_optimizer"]

_STEPS = 3
_DIVERGED = 1e3  # a weight; they begin below 1


def check_joint_optimizer(cls: type[JointOptimizer], **settings: Any) -> None:
    """Check a joint optimizer of your own: that it trains, is saved whole, and means the same in a graph.

    It makes the optimizer and trains a model of a few numbers. Call it in your tests::

        def test_my_rule():
            rewriter.testing.check_joint_optimizer(MyRule)

    Args:
        cls: The class, a subclass of :class:`rewriter.JointOptimizer`.
        **settings: Arguments for its ``__init__``, where it has any without a default.

    Raises:
        AssertionError: Something is wrong; the message says what, and what to write instead.
        TypeError: ``cls`` is no subclass of ``JointOptimizer``.
        OptimizerError: A step failed, or a slot starts with something else than its extent says.
    """
    if not (isinstance(cls, type) and issubclass(cls, JointOptimizer)):
        raise TypeError(f"expected a subclass of {keras.LIBRARY}.JointOptimizer, got {cls!r}.")
    _check_that_it_is_made(cls, settings)
    _check_learning_rate(cls, settings)
    _check_variables(cls, settings)
    _check_settings(cls, settings)
    _check_that_it_trains(cls, settings)
    _check_state(cls, settings)


def _check_that_it_is_made(cls: Any, settings: dict[str, Any]) -> None:
    """Check that ``__init__`` calls that of its parent, and does so first."""
    optimizer: Any = cls.__new__(cls)
    first = f"{cls.__name__}.__init__ must call super().__init__(learning_rate, **kwargs) before anything else."
    try:
        optimizer.__init__(**settings)
    except (AttributeError, ValueError) as error:
        if keras.is_constructed(optimizer) or cls.__init__ is JointOptimizer.__init__:
            raise
        raise AssertionError(f"{first} ({error})") from error
    if not keras.is_constructed(optimizer):
        raise AssertionError(first)


def _check_learning_rate(cls: Any, settings: dict[str, Any]) -> None:
    """Check that a learning rate that is given is the one that trains."""
    if "learning_rate" not in inspect.signature(cls).parameters:
        return
    rates = [keras.learning_rate_of(cls(**{**settings, "learning_rate": rate})) for rate in (0.0625, 0.125)]
    if rates[0] == rates[1]:
        raise AssertionError(
            f"{cls.__name__} does not pass its learning rate on: super().__init__(learning_rate, **kwargs) in its "
            "__init__."
        )


def _check_variables(cls: Any, settings: dict[str, Any]) -> None:
    """Check that files hold every variable of the optimizer as a whole."""
    named, _ = argument_names(cls)
    for attribute in set(keras.variables_not_saved(cls(**settings))) - named:
        raise AssertionError(
            f"{cls.__name__}.{attribute} is a tf.Variable of its own, which .keras and .h5 files do not hold: make it "
            f"with self.{attribute} = self.add_variable(shape, name={attribute!r})."
        )


def _check_settings(cls: Any, settings: dict[str, Any]) -> None:
    """Check that the optimizer can be made again from its config."""
    try:
        cls(**settings).require_saveable()
    except TypeError as error:
        raise AssertionError(str(error)) from error


def _check_that_it_trains(cls: Any, settings: dict[str, Any]) -> None:
    """Check that steps move weights, and move them alike in a graph, which is traced once, and outside of any."""
    trained = {}
    for eagerly in (True, False):
        model, optimizer = _model(cls, settings, eagerly)
        before, numbers = model.get_weights(), _numbers_of(optimizer)
        returned = _what_is_returned(optimizer)
        _train(model)
        for name, number in _numbers_of(optimizer).items():
            if numbers.get(name, getattr(cls, name, number)) != number:
                raise AssertionError(
                    f"{cls.__name__} changed self.{name} to {number} in a step. A step is traced, so Python runs it "
                    "once: self.iterations counts the steps, and self.add_variable in __init__ makes a number that "
                    "changes."
                )
        trained[eagerly] = model.get_weights()
        for variable, old, new in zip(model.weights, before, trained[eagerly], strict=True):
            together = "update_layers" if cls.update_layers is not JointOptimizer.update_layers else "update_layer"
            hook = "update_other" if layout_of(variable) is None else together
            if np.array_equal(old, new) and (hook in returned or hook == together):
                what = "returned a tensor and assigned nothing" if hook in returned else "assigned nothing"
                raise AssertionError(
                    f"{cls.__name__}.{hook} {what}: {variable.name} of shape {old.shape} did not move in {_STEPS} "
                    "steps. Assign to the variable, as in variable.assign_sub(step), and return nothing."
                )
    for eager, traced in zip(trained[True], trained[False], strict=True):
        if not np.allclose(eager, traced, rtol=1e-3, atol=1e-5):
            _require_no_divergence(cls, [eager, traced])
            raise AssertionError(
                f"{cls.__name__} trains differently in a graph and eagerly, by up to "
                f"{np.abs(eager - traced).max():g}: what changes from step to step must be a slot, self.iterations, or "
                "made by self.add_variable. A rule that makes rounding errors large, as eigenvectors of equal "
                "eigenvalues do, cannot pass."
            )


def _check_state(cls: Any, settings: dict[str, Any]) -> None:
    """Check that a file holds all state: an optimizer made from its settings and variables goes on the same."""
    model, optimizer = _model(cls, settings, eagerly=True)
    _train(model)
    other, again = _model(cls, {}, eagerly=True, make=lambda: cls.from_config(optimizer.get_config()))
    again.build(other.trainable_variables)
    other.set_weights(model.get_weights())
    for variable, value in zip(again.variables, optimizer.variables, strict=True):
        variable.assign(value)
    for each in (model, other):
        _train(each)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        if not np.array_equal(one, two):
            _require_no_divergence(cls, [one, two])
            raise AssertionError(
                f"{cls.__name__} trains differently after it is saved and read again: it keeps something that is no "
                "slot, no setting of its __init__, and not made by self.add_variable."
            )


def _model(cls: Any, settings: dict[str, Any], eagerly: bool, make: Callable[[], Any] | None = None) -> tuple[Any, Any]:
    """Make a model of two merged layers and one that is not, always from the same start."""
    generator = np.random.default_rng(0)
    dense, normalization = keras.layer_classes("Dense", "LayerNormalization")
    model = keras.Sequential([dense(4, activation="tanh"), normalization(), dense(2)])
    model.build((None, 3))
    model.set_weights([generator.uniform(0.1, 0.9, weight.shape) for weight in model.get_weights()])
    optimizer = cls(**settings) if make is None else make()
    model.compile("sgd", "mse", run_eagerly=eagerly)
    with warned():  # of layers that are not the caller's
        rewrite(model, optimizer, check=False)
    return model, optimizer


def _train(model: Any) -> None:
    generator = np.random.default_rng(1)
    batch = generator.standard_normal((8, 3)), generator.standard_normal((8, 2))
    for _ in range(_STEPS):
        model.train_on_batch(*batch)


def _require_no_divergence(cls: Any, weights: list[Any]) -> None:
    """Raise ``AssertionError`` where weights are far from where they began: of such nothing else is to be said."""
    if not all(np.abs(weight).max() < _DIVERGED for weight in weights):
        raise AssertionError(
            f"{cls.__name__} diverges on the model of this check, whose weights are below 1, within {_STEPS} steps. "
            f"Give it a smaller rate: check_joint_optimizer({cls.__name__}, learning_rate=...)."
        )


def _what_is_returned(optimizer: Any) -> set[str]:
    """Return a set that collects the names of methods that return something in a step."""
    returned = set[str]()

    def watched(hook: str) -> Callable[..., None]:
        own = getattr(optimizer, hook)

        def update(*given: Any) -> None:
            if own(*given) is not None:
                returned.add(hook)

        return update

    for hook in ("update_layer", "update_layers", "update_other"):
        object.__setattr__(optimizer, hook, watched(hook))
    return returned


def _numbers_of(optimizer: Any) -> dict[str, Any]:
    numbers = {name: value for name, value in vars(optimizer).items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if name != "built"}  # that of Keras 3 itself
