"""A model whose training step has a factor for each variable, as discriminative fine-tuning has."""

import tensorflow as tf
import tf_keras


class Factors(tf_keras.Model):
    """Multiplies the gradient of each variable by ``factor_of(variable)``."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        pairs = zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        self.optimizer.apply_gradients([(self.factor_of(each) * gradient, each) for gradient, each in pairs])
        return {"loss": loss}
