"""``python warm_python.py ...`` is ``python ...`` in a process that has TensorFlow imported already, and nothing else.

Importing TensorFlow takes seconds, and a hundred tests need a fresh process. One process imports it once, and forks for
each of them. What it forks has never made a tensor, a model, or an import of this library: it is as fresh as a new
interpreter that has just run ``import tf_keras``. Tests of the import itself use ``sys.executable``.

The server is started by ``serving()`` in conftest; the clients find it by an environment variable.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ADDRESS = "REWRITER_WARM_PYTHON"
# In place of [sys.executable]; -S, because the client itself needs no package.
WARM_PYTHON = [sys.executable, "-S", __file__]


@contextlib.contextmanager
def serving():
    """Inside, WARM_PYTHON can be called."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[ADDRESS] = f"{folder}/socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.environ[ADDRESS])
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        listener.close()
        try:
            yield
        finally:
            server.kill()
            server.wait()


def serve(listener):
    """Import TensorFlow, and fork for each client."""
    import tf_keras  # noqa: F401, PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the others
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            answer(connection)
        connection.close()


def answer(connection):
    """Run what a client asks for in a process of its own, and tell the client how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    runner = os.fork()
    if runner == 0:
        connection.close()
        run(streams, **json.loads(request))
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the client was killed
        connection.sendall(json.dumps(code).encode())
    os._exit(0)


def run(streams, arguments, folder, environment):
    """Do as the interpreter does with its arguments, and exit."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))  # noqa: SIM115, PTH123
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        if arguments[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
        elif arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], folder
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  as an interpreter would
        traceback.print_exc()
        code = 1
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def ask(arguments):
    """Have a program run, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[ADDRESS])
        request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        return json.loads(connection.recv(64) or "1")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(socket.socket(fileno=int(sys.argv[2])))
    code = ask(sys.argv[1:])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
