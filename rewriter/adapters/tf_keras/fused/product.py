"""The product of a rewritten Dense layer, ``y = [x, 1] · W*``, with a backward pass that makes ``dW*`` in one piece.

In a graph the forward pass is that of Keras, on views of ``W*``, bit for bit. The backward pass is not: it is equal to
rounding. So layers whose optimizer goes on with a state of its own do without (see ``augmented_class``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ... import xla
from ..graphs import context
from ..observation.statistics import with_ones

if TYPE_CHECKING:
    from rewriter.core.layout import Layout

# From how many numbers in the kernel on it is worth to ask, at run time, for the number of rows.
_LARGE = 2**17
# By how much the kernel must have more rows than the batch.
_FEW = 4


def product_is_exact() -> bool:
    """Return ``False``: on some processors it rounds otherwise."""
    return False


def fuses_product(inputs: Any) -> bool:
    """Tell whether a Dense layer should take :func:`fused_product` for its inputs, in what is traced now.

    Without a backward pass Keras's own way is the faster one: TensorFlow fuses it with the activation.
    """
    if tf.executing_eagerly() or not isinstance(inputs, tf.Tensor) or (inputs.shape.rank or 0) < 2:  # noqa: PLR2004
        return False
    return context.is_differentiated() or xla.is_compiled_by_xla()


def fused_product(
    inputs: Any, augmented: Any, layout: Layout, twin: Any = None, mean: Any = None, made: Any = None
) -> Any:
    """Multiply the inputs of a Dense layer by its kernel, and add its bias.

    Args:
        inputs: Tensor of shape ``(..., fan_in)``, of the layer's compute dtype.
        augmented: Tensor of shape ``(fan_in + 1, units)`` and that dtype.
        layout: Its layout.
        twin: A scalar of that dtype, or ``None``. It is not computed with. Its "gradient" is that of the kernel in
            centered coordinates, ``[x - m, 1]ᵀ dy``, of the kernel's shape: the only exact way to that, as
            ``xᵀ dy - m ⊗ G_b`` cancels. A graph makes it only for those who ask for it.
        mean: Returns ``[m, 0]``, a tensor of shape ``(1, fan_in + 1)``, when it is called on the way back; given with a
            twin.
        made: Is called with the gradient of the kernel, when that is made; given with a twin.

    Returns:
        Tensor of shape ``(..., units)``.
    """
    inputs, augmented = map(context.for_way_back, (inputs, augmented))
    multiply = _whole if xla.is_compiled_by_xla() else _with_views
    if inputs.shape.rank == 2:  # noqa: PLR2004
        return multiply(inputs, augmented, layout, twin, mean, made)
    flat = tf.reshape(inputs, (-1, layout.kernel_rows.stop))
    outputs = multiply(flat, augmented, layout, twin, mean, made)
    outputs = tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [layout.units]], axis=0))
    return tf.ensure_shape(outputs, inputs.shape[:-1].concatenate(layout.units))


def _with_views(inputs: Any, augmented: Any, layout: Layout, twin: Any, mean: Any, made: Any) -> Any:
    """Go forward on the views, as Keras does, and backward in one product.

    ``[x, 1]ᵀ dy`` copies the input; ``xᵀ dy`` and a row below copies the gradient. On two CPU cores the one took 1.6 ms
    where the other took 2.0 (32 rows, 1024 by 1024), and 39 where the other took 72 (16 rows, 4096 by 4096).
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def multiply(inputs: Any, augmented: Any, *twins: Any) -> Any:
        kernel, bias = layout.unstack(augmented)

        def gradient(upstream: Any) -> tuple[Any, ...]:
            upstream = tf.convert_to_tensor(upstream)  # of a tf.gather it is tf.IndexedSlices
            of_kernel = _stacked_gradient(with_ones(inputs), upstream, layout)
            of_twin = [_stacked_gradient(with_ones(inputs) - mean(), upstream, layout) for _ in twins]
            if twins:
                made(of_kernel)
            return _times_transposed(upstream, kernel), of_kernel, *of_twin

        return tf.nn.bias_add(tf.matmul(inputs, kernel), bias), gradient

    return multiply(inputs, augmented, *([] if twin is None else [twin]))


def _whole(inputs: Any, augmented: Any, layout: Layout, twin: Any, mean: Any, made: Any) -> Any:
    """Go forward and backward on ``W*`` as it is: XLA makes a copy of every view that it multiplies by.

    With the copy a product of 16 rows and 4096 by 4096 took 50 ms on two CPU cores, without 15. Where layers are small
    an odd number of columns costs what the copy would: 545 µs after 466 for 128 rows and 784 by 256.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def multiply(inputs: Any, augmented: Any, *twins: Any) -> Any:
        stacked = with_ones(inputs)

        def gradient(upstream: Any) -> tuple[Any, ...]:
            upstream = tf.convert_to_tensor(upstream)
            inward = tf.matmul(upstream, augmented, transpose_b=True)[:, layout.kernel_rows]
            of_kernel = _stacked_gradient(stacked, upstream, layout)
            of_twin = [_stacked_gradient(stacked - mean(), upstream, layout) for _ in twins]
            if twins:
                made(of_kernel)
            return inward, of_kernel, *of_twin

        return tf.matmul(stacked, augmented), gradient

    return multiply(inputs, augmented, *([] if twin is None else [twin]))


def _stacked_gradient(stacked: Any, upstream: Any, layout: Layout) -> Any:
    upstream.set_shape((None, layout.units))
    return tf.matmul(stacked, upstream, transpose_a=True)


def _times_transposed(upstream: Any, kernel: Any) -> Any:
    """Multiply ``dy · Wᵀ``, as ``(W · dyᵀ)ᵀ`` where that is faster: a large kernel and few rows of ``dy``.

    TensorFlow packs the larger factor, transposed, again in each call. In ms on two CPU cores, plainly and turned: 6.0
    and 1.6 (32 rows, 1024 by 1024), 37 and 7.5 (16 rows, 4096 by 4096), 9.6 and 6.5 (256 rows, 1024 by 1024); but 0.84
    and 0.92 (128 rows, 256 by 256), 5.8 and 9.9 (1024 rows, 256 by 1024).
    """

    def plainly() -> Any:
        return tf.matmul(upstream, kernel, transpose_b=True)

    def turned() -> Any:
        return tf.transpose(tf.matmul(kernel, upstream, transpose_b=True))

    if kernel.shape.num_elements() < _LARGE:
        return plainly()
    most = kernel.shape[0] // _FEW
    if upstream.shape[0] is not None:
        return turned() if upstream.shape[0] <= most else plainly()
    return tf.cond(tf.shape(upstream)[0] <= most, turned, plainly)
