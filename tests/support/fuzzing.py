"""Damaged model files, made from real ones, and what `rewriter rewrite` does with each.

By hand: make fuzz, or python tests/support/fuzzing.py 2000. A case is its number: it can be made again from that alone.
"""

import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from warm_python import ADDRESS, WARM_PYTHON

YES = "read and rewritten"
SECONDS = 20  # for one case; reading a SavedModel takes about one
NUMBERS = [-1, 0, 1, 2, 7, 255, 65536, 2**31, 2**63, 10**30, 0.5, -1e300]
VALUES = [*NUMBERS, None, True, False, "", "x", "../x", "Dense", "lambda", [], {}, [[]], {"class_name": "Dense"}]


def damage(chance, content):
    """Flip, cut, repeat, clear or splice bytes."""
    content = bytearray(content)
    if not content:
        return bytes(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        start = chance.randrange(len(content) or 1)
        size = min(chance.choice([1, 1, 4, 64, 1024]), max(1, len(content) - start))
        match chance.randrange(6):
            case 0:
                content[start] ^= 1 << chance.randrange(8)
            case 1:
                content[start : start + size] = chance.randbytes(size)
            case 2:
                del content[start : start + size]
            case 3:
                content[start:start] = content[start : start + size]
            case 4:
                content[start : start + size] = bytes(size)
            case _:
                other = chance.randrange(len(content))
                content[start : start + size] = content[other : other + size]
        if not content:
            break
    return bytes(content) if chance.random() < 0.9 else bytes(content[: chance.randrange(len(content) + 1)])


def edit(chance, text):
    """Change values in JSON: another value, a key gone, a key renamed, a part put elsewhere, a deep nest."""
    data = json.loads(text)
    for _ in range(chance.choice([1, 1, 2, 4])):
        nodes, waiting = [], [data]
        while waiting:
            each = waiting.pop()
            if isinstance(each, dict | list) and each:
                nodes.append(each)
                waiting += each.values() if isinstance(each, dict) else each
        if not nodes:
            break
        node = chance.choice(nodes)
        key = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        match chance.randrange(6):
            case 0 | 1:
                node[key] = chance.choice(VALUES)
            case 2:
                del node[key]
            case 3 if isinstance(node, dict):
                node[chance.choice(["x", "name", "config", "class_name", "module"])] = node.pop(key)
            case 4:
                node[key] = json.loads(json.dumps(chance.choice(nodes)))
            case _:
                node[key] = json.loads("[" * 200 + "]" * 200)
    return json.dumps(data)


def damage_archive(chance, content):
    """Drop, repeat, rename, swap, edit or damage the members of an archive, each with a right checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [[name, archive.read(name)] for name in archive.namelist()]
    member = chance.choice(members)
    match chance.randrange(7):
        case 0:
            members.remove(member)
        case 1:
            members.append(list(member))
        case 2:
            member[0] = chance.choice(["../x", "/x", "config.json", "assets/x", "a\\..\\x", ""])
        case 3:
            member[1] = chance.choice(members)[1]
        case 4 | 5 if member[0].endswith(".json"):
            member[1] = edit(chance, member[1]).encode()
        case _:
            member[1] = damage(chance, member[1])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, value in members:
            archive.writestr(name or "x", value)
    return target.getvalue()


def damage_hdf5(chance, path):
    """Edit the config, or drop, resize or fill an array, in an HDF5 file."""
    import h5py  # noqa: PLC0415  only where it is needed: the parent process stays small

    with h5py.File(path, "a") as file:
        arrays = []
        file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
        name = chance.choice(arrays)
        match chance.randrange(5):
            case 0 | 1:
                key = chance.choice([key for key in ("model_config", "training_config") if key in file.attrs])
                file.attrs[key] = edit(chance, file.attrs[key])
            case 2:
                del file[name]
            case 3:
                value = file[name][()]
                del file[name]
                file[name] = value.reshape(-1)[: chance.randrange(value.size + 1)]
            case _:
                group = chance.choice(["model_weights", "optimizer_weights"])
                key = chance.choice(list(file[group].attrs))
                del file[group].attrs[key]


def make(number, good, path):
    """Make the damaged file or folder of a number; returns its path."""
    chance = random.Random(number)  # noqa: S311
    name = chance.choice([*["model.keras"] * 8, *["joint.keras"] * 4, *["model.h5"] * 7, *["joint.h5"] * 3, "model"])
    bad = path / name
    if name == "model":
        shutil.copytree(good / name, bad)
        file = chance.choice([found for found in sorted(bad.rglob("*")) if found.is_file() and found.stat().st_size])
        if chance.random() < 0.2:
            file.unlink()
        else:
            file.write_bytes(damage(chance, file.read_bytes()))
        return bad
    content = (good / name).read_bytes()
    if chance.random() < 0.35:
        bad.write_bytes(damage(chance, content))
    elif name.endswith(".keras"):
        bad.write_bytes(damage_archive(chance, content))
    else:
        bad.write_bytes(content)
        damage_hdf5(chance, bad)
    return bad


def judge(number, good, folder):
    """Rewrite the damaged file of a number; returns what is wrong with what happened, ``None`` if it was refused."""
    import tf_keras  # noqa: PLC0415

    import rewriter  # noqa: PLC0415
    from rewriter.commands.rewrite import rewrite_file  # noqa: PLC0415

    place = folder / str(number)
    place.mkdir()
    bad = make(number, good, place)
    output = place / "output.keras"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        rewrite_file(bad, output)
        message = ""
    except rewriter.RewriterError as error:
        message = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    left = [found.name for found in place.iterdir() if found not in {bad, output}]
    if grown > 200:
        return f"took {grown} MB"
    if left:
        return f"left {left}"
    if message:
        return None if "\n" not in message and not output.exists() else f"wrote or said more than a line: {message}"
    try:
        with rewriter.standard_form(tf_keras.models.load_model(str(bad))) as model:
            expected = model.get_weights()
    except Exception as error:  # noqa: BLE001
        return f"said yes, where Keras says {type(error).__name__}"
    with rewriter.standard_form(rewriter.load_model(output)) as model:
        same = [a.tobytes() for a in model.get_weights()] == [b.tobytes() for b in expected]
    return YES if same else "wrote other weights than Keras reads"


def prepare(folder):
    """Make the real files: trained, standard and rewritten."""
    import tf_keras  # noqa: PLC0415

    import rewriter  # noqa: PLC0415
    from models import fit, save_in_each_format  # noqa: PLC0415

    tf_keras.utils.set_random_seed(1)
    model = save_in_each_format(folder)
    rewriter.rewrite(model)
    fit(model)
    model.save(folder / "joint.keras")
    model.save(folder / "joint.h5")


def work(good, first, last):
    """Judge some numbers, one line of JSON each, and flush: a crash of the process tells by what is missing."""
    import warnings  # noqa: PLC0415

    warnings.simplefilter("ignore")

    def out_of_time(*_):
        raise KeyboardInterrupt(f"after {SECONDS} s")  # the one that nothing on the way takes for its own

    signal.signal(signal.SIGALRM, out_of_time)
    if not (good / "joint.h5").exists():
        prepare(good)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            signal.alarm(SECONDS)
            try:
                wrong = judge(number, good, Path(folder))
            except BaseException as error:  # noqa: BLE001
                wrong = f"raised {type(error).__name__}: {str(error)[:300]}"
            finally:
                signal.alarm(0)
            sys.stdout.write(json.dumps([number, wrong]) + "\n")
            sys.stdout.flush()


def run(good, cases, start=0):
    """Judge that many cases in processes of their own; returns those that went wrong, and how many were no damage."""
    wrong, number, rewritten = {}, start, 0
    while number < start + cases:
        python = WARM_PYTHON if ADDRESS in os.environ else [sys.executable]  # a test, or `make fuzz`
        command = [*python, __file__, "--work", str(good), str(number), str(start + cases)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
        wrong.update({case: what for case, what in lines if what and what != YES})
        rewritten += sum(what == YES for _, what in lines)
        number = lines[-1][0] + 1 if lines else number
        if number < start + cases:
            wrong[number] = f"the process ended with {result.returncode}: {result.stderr[-300:]}"
            number += 1
    return wrong, rewritten


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        with tempfile.TemporaryDirectory() as made:
            found, rewritten = run(Path(made), int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        for case, what in found.items():
            sys.stdout.write(f"{case}: {what}\n")
        sys.stdout.write(f"{sys.argv[1]} cases: {rewritten} read and rewritten, {len(found)} wrong, the rest refused\n")
        sys.exit(bool(found))
