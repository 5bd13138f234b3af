"""Write over an old file or folder again and again, in a child that is killed at one of many points.

The points are function calls, counted over the whole write, and every one of the last. Prints what was found each time.
"""

import json
import os
import signal
import sys
from pathlib import Path

import tf_keras

import rewriter
from rewriter.files.atomic_write import place

target, kind, count_path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(5,))])
rewriter.rewrite(model)
state = ""


def write_folder(path):
    path.mkdir()
    for name in "abc":
        (path / name).write_text(state)


def write():
    if kind == "folder":
        place(target, write_folder)
    else:
        rewriter.save_model(model, target, overwrite=True)


def content():
    if not target.exists():
        return None
    if kind == "folder":
        return [(target / name).read_text() for name in "abc"]
    loaded = rewriter.load_model(target)
    return [float(loaded.layers[0].augmented_kernel[0, 0])]


def become(text, number):
    global state  # noqa: PLW0603  what is written in either kind
    state = text * 1000
    model.layers[0].augmented_kernel.assign(model.layers[0].augmented_kernel * 0 + number)


def restore():
    """Write the old one again, for the next kill to have something to lose."""
    become("old", 1)
    write()
    become("new", 2)


def child(limit):
    count = 0

    def profile(_frame, event, _argument):
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1
            if count == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    write()
    sys.setprofile(None)
    count_path.write_text(str(count))
    os._exit(0)


def run_child(limit):
    """Write in a child; returns whether it was killed."""
    pid = os.fork()
    if pid == 0:
        child(limit)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


restore()
before, seen, killed = content(), [], None
run_child(0)
total = int(count_path.read_text())
points = sorted({*range(1, total, max(1, total // 25)), *range(max(1, total - 40), total + 1)})
restore()
for limit in [*points, total + 1000]:
    killed = run_child(limit)
    now = content()
    seen.append("old" if now == before else "new" if now and set(map(str, now)) <= {"2.0", state} else str(now))
    if seen[-1] == "new":
        restore()
print(json.dumps({"seen": seen, "killed": killed}))
