"""A process that has everything imported and starts command lines by forking: each costs what it computes.

Reads requests from standard input and answers them on standard output, a JSON object a line:

* ``{"import": [names]}``: imports modules; answers ``{}``.
* ``{"start": arguments, "log": path, "cwd": path, "environment": {}, "hook": [module, {options}], "user": number}``:
  starts ``wheeltapper *arguments`` in a process of its own; answers ``{"pid": number}``.
* ``{"wait": pid, "seconds": number or null}``: waits for it, kills it when the time is over; answers ``{"status": exit
  status, negative where a signal ended it, "seconds": number}``.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings

MODULES = "modules.json"  # beside a log: what the process had imported when it ended


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an import prints is no answer
    begins: dict[int, float] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict = {}
        if "import" in request:
            _import(request["import"])
        elif "start" in request:
            pid = os.fork()
            if not pid:
                answers.close()
                _child(request)
            begins[pid] = time.monotonic()
            answer = {"pid": pid}
        else:
            answer = _wait(request["wait"], begins.pop(request["wait"]), request["seconds"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _import(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with contextlib.suppress(Exception):  # of modules that others put together as they are imported
                importlib.import_module(name)


def _child(request: dict) -> None:
    """Never returns."""
    status = 70
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request.get("environment", {}))
        time.tzset()
        os.chdir(request.get("cwd", "."))
        sys.argv = ["wheeltapper", *request["start"]]
        finish = None
        if request.get("hook"):
            module, options = request["hook"]
            finish = importlib.import_module(module).install(**options)
        if request.get("user"):
            os.setgid(request["user"])
            os.setuid(request["user"])
        from system.bin import main as wheeltapper

        status = wheeltapper(request["start"])
        if finish:
            finish()
        if request.get("learn"):
            with open(request["learn"], "w") as file:
                json.dump(sorted(sys.modules), file)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 70
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, begin: float, seconds: float | None) -> dict:
    if seconds is not None:
        while time.monotonic() < begin + seconds:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return _answer(status, begin)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    return _answer(os.waitpid(pid, 0)[1], begin)


def _answer(status: int, begin: float) -> dict:
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    main()
