"""The place to write a rule about whole layers: a Keras optimizer that gets kernel and bias together.

A subclass says which slots it keeps for each layer and writes one method:

    class Centralized(rewriter.JointOptimizer):
        def update_layer(self, gradient, variable, layout):
            centered = gradient - tf.reduce_mean(gradient, axis=layout.incoming_axis, keepdims=True)
            variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * centered)
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core import hints
from rewriter.core.flags import require_flags
from rewriter.core.layout import ViewKey, layout_of

from ..adapters import keras
from . import rule_errors
from .hyperparameters import (
    require_count,
    require_known,
    require_learning_rate,
    require_number,
    scalar,
)
from .layers_together import StepsTogether
from .rule_statistics import ObservingRule
from .saved_settings import KeptSettings
from .state.extents import EXTENTS, condensed, shape_of_slot
from .state.slots import require_slots_for
from .weight_decay import RowwiseWeightDecay, decayed_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rewriter.core.layout import Layout

    from .state.extents import Extent

# The settings of every optimizer of Keras, beside its learning rate, its name and jit_compile.
BOUNDS = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")
AVERAGING = ("use_ema", "ema_momentum", "ema_overwrite_frequency")

_NO_RULE = "{} must implement update_layer(self, gradient, variable, layout)."


class JointOptimizer(RowwiseWeightDecay, StepsTogether, ObservingRule, KeptSettings):
    """A Keras optimizer whose rule sees a layer whole: kernel and bias in one variable, ``W* = [W; b]``.

    It is compiled, wrapped in a ``LossScaleOptimizer``, distributed and saved as any optimizer of Keras. Weight
    decay, clipping and moving averages are done here; a subclass writes :meth:`update_layer` and, where it wants
    another rule than gradient descent for the variables that are no augmented kernels, :meth:`update_other`. A rule
    that needs all layers at once writes :meth:`update_layers` instead; one that needs to know what its layers see names
    it in ``statistics``.

    Each argument of a subclass's ``__init__`` is kept under its own name, ``self.momentum = momentum``, as in
    scikit-learn; :meth:`get_config` finds it there. Register the subclass with
    ``tf_keras.saving.register_keras_serializable`` so that files with it can be read, and let its ``__init__`` take and
    pass on ``**kwargs``.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``.
        weight_decay: Decoupled weight decay, times the learning rate; of an augmented kernel on the kernel rows only.
            Variables that are no augmented kernels decay as in every Keras optimizer.
        decay_bias: Let the bias rows decay too.
        clipnorm: As in every Keras optimizer; an augmented kernel is clipped whole.
        clipvalue: As in every Keras optimizer.
        global_clipnorm: As in every Keras optimizer.
        use_ema: As in every Keras optimizer.
        ema_momentum: As in every Keras optimizer, in [0, 1].
        ema_overwrite_frequency: As in every Keras optimizer.
        jit_compile: As in every Keras optimizer.
        name: Name of the optimizer; that of its class if not given.
        **kwargs: What Keras adds when it loads an optimizer.

    Attributes:
        slots: What a subclass keeps for each variable: the name of each slot and its extent. For an augmented kernel
            of shape ``(incoming, units)`` a slot of extent ``"unit"`` has shape ``(units,)``, ``"incoming"``
            ``(incoming,)``, ``"layer"`` ``()`` and ``"full"`` that of the kernel. Beside the kernel one of extent
            ``"unit"`` is broadcast as it is, and one of ``"incoming"`` as ``slot[:, tf.newaxis]``. One of extent
            ``"incoming_pairs"`` has shape ``(incoming, incoming)``, ``"unit_pairs"`` ``(units, units)``. Any other
            variable counts as one in which each number is a unit of its own: its slot has the variable's shape, of
            extent ``"layer"`` and of pairs ``()``; it is made whether or not :meth:`update_other` reads it. A slot of
            extent ``"others"`` is for these alone, and ``()`` of an augmented kernel. :meth:`slot_shape` may say
            otherwise, for a variable.
            Slots have the dtype of the variable and start at zero, unless :meth:`initial_slot` says otherwise. Those
            of a parent class are named again, ``slots = {**Parent.slots, ...}``. A state of the optimizer as a whole is
            made in ``__init__``, by ``self.add_variable((), name=...)``.
        statistics: What a subclass wants to know of what each layer sees in training, by name, and how much of what was
            seen before counts one step later, ``{"input_mean": 0.99}``, or a :class:`rewriter.RunningMean`.
            :meth:`statistic` says which there are, and reads them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    slots: ClassVar[Mapping[str, Extent]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        rule_errors.require_rule_class(cls)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        weight_decay: float | None = None,
        decay_bias: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        jit_compile: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Raised when it is made, and not in the middle of the first epoch.
        if type(self).update_layer is JointOptimizer.update_layer and not self._rewriter_sees_all:
            raise NotImplementedError(_NO_RULE.format(type(self).__name__))
        # A property may need settings that are yet to be kept.
        if not hasattr(inspect.getattr_static(type(self), "slots"), "__get__"):
            rule_errors.require_extents(self, EXTENTS)
        # Keras only logs a name that it does not know, and trains without that setting.
        require_known(type(self), kwargs.keys() - {"is_legacy_optimizer", *keras.OPTIMIZER_SETTINGS})
        require_flags(decay_bias=decay_bias, use_ema=use_ema)
        require_learning_rate(learning_rate)
        for setting, value in (
            ("weight_decay", weight_decay),
            ("clipnorm", clipnorm),
            ("clipvalue", clipvalue),
            ("global_clipnorm", global_clipnorm),
        ):
            require_number(setting, value, 0, optional=True)
        require_number("ema_momentum", ema_momentum, 0, 1)
        require_count("ema_overwrite_frequency", ema_overwrite_frequency, optional=True)
        super().__init__(
            learning_rate,
            name=name or type(self).__name__,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            jit_compile=jit_compile,
            **kwargs,
        )
        self.decay_bias = decay_bias

    def update_layer(self, gradient: Any, variable: Any, layout: Layout) -> None:
        """Apply one step of the rule to a whole layer.

        It runs inside a ``tf.function``: once, when that is traced, and its operations at every step. What it does to
        Python's own numbers is done once; ``self.iterations`` counts the steps, 0 in the first, and a setting that is
        to change is made in ``__init__``, by ``self.add_variable``. Under ``tf.distribute`` it runs once for each copy
        of the variable, with the gradient summed over the replicas; ``variable`` and :meth:`slot` are that copy's then.

        Args:
            gradient: Tensor of the shape and dtype of ``variable``, clipped; its bias rows are the bias gradient.
            variable: The augmented kernel ``W*``, of shape ``(incoming, units)``, weight decay done; assign to it.
                Under mixed precision it is the variable that is stored, in its own dtype.
            layout: Its layout: ``incoming_axis``, ``units``, ``kernel_rows`` and ``bias_rows``.

        Returns:
            Nothing: a returned value is ignored; one of the variable's shape, with a warning.

        Raises:
            OptimizerError: Whatever is raised here is raised again in training with the layer, its rows and its slots.
        """
        raise NotImplementedError(_NO_RULE.format(type(self).__name__))

    def update_other(self, gradient: Any, variable: Any) -> None:
        """Apply one step to a variable that is no augmented kernel: gradient descent, unless overridden.

        Args:
            gradient: Its gradient: a tensor, or ``tf.IndexedSlices`` without repeated indices, as of an ``Embedding``.
            variable: The variable; assign to it.
        """
        keras.descend(variable, gradient, keras.ops.cast(self.learning_rate, variable.dtype))

    def slot(self, name: str, variable: Any) -> Any:
        """Return the slot of a variable, itself a variable to read and assign.

        Args:
            name: One of :attr:`slots`.
            variable: The variable that :meth:`update_layer` or :meth:`update_other` was given.
        """
        if name not in self.slots:
            raise ValueError(rule_errors.no_slot(self, name))
        place = keras.place_among_slots(self, variable)
        if place is None:
            raise ValueError(
                f"{type(self).__name__} has no slot {name!r} of {variable.name}: it was not built for that variable. "
                "Pass the variable that the rule was given."
            )
        return getattr(self, name)[place]

    def initial_slot(self, name: str, variable: Any, shape: tuple[int, ...]) -> Any:
        """Return the first value of a slot: zeros, unless overridden. Call ``super().initial_slot`` for other slots.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
            shape: The slot's shape.

        Returns:
            A tensor of that shape and of :meth:`slot_dtype`, or numbers of that shape; all else is refused.
        """
        del name
        return keras.ops.zeros(shape, self.slot_dtype(variable))

    def slot_shape(self, name: str, variable: Any) -> tuple[int, ...]:
        """Return the shape of a slot: what its extent says, unless overridden. Of ``()`` it is one number.

        Args:
            name: The slot's name.
            variable: The variable it belongs to; ``rewriter.layout_of(variable)`` tells a layer from the rest.
        """
        return shape_of_slot(self.slots[name], variable, layout_of(variable))

    def slot_dtype(self, variable: Any) -> Any:
        """Return the dtype of the slots of a variable: the one it is stored in, unless overridden.

        Args:
            variable: The variable they belong to.
        """
        # Under mixed precision the variable reads in float16, and state would underflow there.
        return keras.stored_dtype(variable)

    def condense(self, name: str, values: Sequence[Any], layout: Layout) -> Any:
        """Make the slot of an augmented kernel from the slots its parts had before they were merged.

        That is what happens to a state when part of a model was rewritten, trained, and the rest is rewritten. Here it
        is the mean; override it where the rule wants another. A slot that comes out in another shape than its own
        starts anew, as those of pairs do, of which the parts know nothing.

        Args:
            name: The slot's name.
            values: The slot of each part, of the part's own shape; scalars, for one of extent ``"layer"`` or of pairs.
            layout: The layout of the augmented kernel.

        Returns:
            The slot's value, of the shape that its extent says.
        """
        # Keras's own slots too: its moving average of the weights is full.
        return condensed(self.slots.get(name, "full"), values, layout)

    def standard_optimizer(self, **settings: Any) -> Any:
        """Return the optimizer of an exported or split model: a fresh SGD of the same learning rate and clipping.

        It is made under the distribution strategy of this one. Override it where another optimizer of Keras is
        nearer; none that is joint, as the standard form has no layers for it to see.

        Args:
            **settings: Further settings of the SGD.
        """
        return self.standard_of("SGD", **settings)

    def standard_of(self, name: str, **settings: Any) -> Any:
        """Return a fresh optimizer of Keras, of the same learning rate and clipping, under the same strategy.

        Args:
            name: Its class, ``"SGD"`` or another.
            **settings: Further settings of it.
        """
        shared = {name: getattr(self, name) for name in (*BOUNDS, *AVERAGING, *keras.OPTIMIZER_SETTINGS)}
        with keras.strategy_scope(self):
            return keras.optimizer_classes(name)[0](keras.learning_rate_of(self), **shared, **settings)

    def _rewriter_require_slots(self, variables: Sequence[Any]) -> None:
        """Raise ``OptimizerError`` unless each of some variables has slots.

        Args:
            variables: The variables to train, when the slots were made before.
        """
        require_slots_for(self, variables)

    def _rewriter_slots(self, variables: Sequence[Any], made_before: bool) -> dict[str, list[Any]]:
        """Return the first values of all slots, by name and in the order of some variables.

        Args:
            variables: The variables to train.
            made_before: The slots were made before, for other variables.

        Raises:
            ValueError: A slot's extent in :attr:`slots` is none of those there are, or its name is taken.
        """
        if variables and not any(map(layout_of, variables)):
            warnings.warn(
                f"{self.name} was given {len(variables)} variables and none of them is an augmented kernel, so it "
                "trains each by itself, as if there were no layers. Call rewriter.rewrite(model, optimizer=...) before "
                f"training, so that kernel and bias are seen together; where that merged nothing, {hints.PLAN} "
                "says why.",
                stacklevel=3,
            )
        rule_errors.require_extents(self, EXTENTS)
        taken = next((name for name in self.slots if hasattr(self, name) and not made_before), None)
        if taken is not None:
            raise ValueError(f"{type(self).__name__} has an attribute {taken}, so the slot needs another name.")
        return {
            name: [rule_errors.initial_slot(self, name, each, self.slot_shape(name, each)) for each in variables]
            for name in self.slots
        }

    @property
    def slot_lists(self) -> set[str]:
        """The attributes that hold one variable for each that is trained: the slots, and Keras's moving average."""
        return {*self.slots, "_model_variables_moving_average"}

    def _rewriter_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable: by :meth:`update_layer` if it is an augmented kernel, else by the other.

        Args:
            gradient: Its gradient, dense or sparse.
            variable: The variable, as it is stored; an augmented kernel is known by its layout.
        """
        layout = layout_of(variable)
        if layout is None:
            rule_errors.run_hook(self, "update_other", gradient, variable)
        else:
            rule_errors.run_hook(self, "update_layer", keras.ops.convert_to_tensor(gradient), variable, layout)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Leave variables out of weight decay, before the optimizer is built.

        Args:
            var_list: Variables, or views of a merged layer's kernel or bias; an augmented kernel is left out whole.
            var_names: Patterns of variable names. Kernel and bias go by the names they have in the standard form,
                ``"dense/kernel"``, merged or not.

        Raises:
            ValueError: One of ``var_list`` is neither a variable nor a view as ``layer.bias`` gives it outside of a
                graph.
            TypeError: ``var_names`` is a string, of which tf-keras would take each letter for a pattern.
        """
        if isinstance(var_names, str):
            raise TypeError(f"var_names is a list of patterns, as [{var_names!r}]; {var_names!r} alone is a string.")
        for variable in var_list or ():
            if not keras.is_variable(variable) and not isinstance(keras.given_key(variable), ViewKey):
                raise ValueError(
                    "exclude_from_weight_decay was given a tensor that is no view of a merged layer. Give layer.kernel "
                    "or layer.bias as it is, the layer's augmented_kernel, or a name: var_names=['dense/kernel']."
                )
        super().exclude_from_weight_decay(var_list, var_names)

    def decayed_parts(self, variable: Any, layout: Layout) -> tuple[str, ...]:
        """Name the parts of an augmented kernel that weight decay acts on.

        Args:
            variable: The augmented kernel.
            layout: Its layout.
        """
        parts = decayed_parts(self, variable, layout)
        return parts if self.decay_bias else tuple(part for part in parts if part != layout.parts[-1].attribute)

    def _rewriter_decayed_parts(self, variable: Any, layout: Layout) -> tuple[str, ...]:
        return self.decayed_parts(variable, layout)

    def _rewriter_decay_rate(self, variable: Any) -> Any:
        return scalar(self.weight_decay, variable.dtype)

    def _rewriter_decay_whole(self, variables: Sequence[Any]) -> None:
        for variable in variables:
            if keras.uses_weight_decay(self, variable):
                keras.update_on_every_replica(self, variable, self._rewriter_decay_variable)

    def _rewriter_decay_variable(self, variable: Any) -> None:
        rate = keras.ops.cast(self.learning_rate, variable.dtype)
        variable.assign_sub(variable * self._rewriter_decay_rate(variable) * rate)


def has_no_rule_for_others(optimizer: Any) -> bool:
    """Tell whether an optimizer is a joint one that leaves what is not merged to gradient descent."""
    cls = type(keras.inner_optimizer(optimizer))
    return issubclass(cls, JointOptimizer) and cls.update_other is JointOptimizer.update_other


def is_joint(optimizer: Any) -> bool:
    """Tell whether an optimizer is a joint one, also inside a ``LossScaleOptimizer``."""
    return isinstance(keras.inner_optimizer(optimizer), JointOptimizer)
