"""Backbones of KerasHub on one backend: how far rewritten ones are from plain ones, trained, and from a file."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

sys.path.append(os.environ["REWRITER_HUB"])  # behind all else: what is there already stays what it is

import keras
import keras_hub
import numpy as np

import rewriter

PATH = f"{sys.argv[2]}/backbone.keras"
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "dropout": 0.1}
TEXT = {"vocabulary_size": 30, "intermediate_dim": 16, "max_sequence_length": 6, **SMALL}
# Each with whether Keras reads back from a file what it has saved.
BACKBONES = {
    "BERT": (lambda: keras_hub.models.BertBackbone(**TEXT), True),
    "GPT-2": (lambda: keras_hub.models.GPT2Backbone(**TEXT), True),
    "Albert": (lambda: keras_hub.models.AlbertBackbone(embedding_dim=4, **TEXT), True),
    "ViT": (
        lambda: keras_hub.models.ViTBackbone(
            image_shape=(8, 8, 3), patch_size=4, mlp_dim=16, layer_norm_epsilon=1e-6, **{**SMALL, "dropout_rate": 0.1}
        ),
        False,
    ),
}


def inputs_of(model):
    """A batch of whole numbers, or an image, for each input."""
    generator = np.random.default_rng(0)

    def one(tensor):
        shape = tuple(6 if size is None else size for size in (4, *tensor.shape[1:]))
        if "float" in tensor.dtype:
            return generator.normal(size=shape).astype("float32")
        return generator.integers(0, 2, shape).astype("int32")

    return keras.tree.map_structure(one, model.input)


def made(builder):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    backbone = builder()
    outputs = keras.tree.flatten(backbone.output)
    pooling = keras.layers.Flatten if len(outputs[-1].shape) == 2 else keras.layers.GlobalAveragePooling1D
    pooled = pooling()(outputs[-1])
    model = keras.Model(backbone.input, keras.layers.Dense(3)(pooled))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def train(model):
    keras.utils.set_random_seed(3)  # on torch dropout draws from what all models draw from
    model.fit(inputs_of(model), np.ones((4, 3)), shuffle=False, verbose=0)


def numbers(values):
    return [np.float64(keras.ops.convert_to_numpy(each)) for each in values]


def read(model):
    """Return a model from its file."""
    model.save(PATH)
    keras.utils.set_random_seed(2)
    return rewriter.load_model(PATH)


def differences(builder, is_read):
    """The number of merged layers, and how far the rewritten model is from the plain one."""
    plain, model = made(builder), made(builder)
    train(plain)
    train(model)
    rewriter.rewrite(model, "keep", layers="all")
    merged = len(rewriter.plan(model, layers="all").merged)
    x = inputs_of(model)
    outputs = float(np.abs(plain.predict(x, verbose=0) - model.predict(x, verbose=0)).max())
    train(plain)
    train(model)
    plain, model = (read(each) if is_read else each for each in (plain, model))
    rewriter.split(model)
    pairs = zip(*(numbers([*each.variables, *each.optimizer.variables]) for each in (plain, model)), strict=True)
    return merged, outputs, max(float(np.abs(one - other).max(initial=0)) for one, other in pairs)


said = {name: differences(*of) for name, of in BACKBONES.items()}
print(json.dumps({"backend": keras.config.backend(), "models": said}))
