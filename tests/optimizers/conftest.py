"""Quick graphs, for tests whose oracle is NumPy: TensorFlow improves each for longer than it runs."""

import pytest
import tensorflow as tf

# Compared bit for bit with the plain model, or with a new process, in graphs as users have them.
AS_USERS_HAVE_THEM = {"test_joint_optimizer", "test_kept_optimizer"}


@pytest.fixture(autouse=True)
def _quick_graphs(request):
    if request.path.stem in AS_USERS_HAVE_THEM:
        yield
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
