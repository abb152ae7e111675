"""
overlayd from Salt: what a spec would do, and doing it.

Wherever a function takes ``files``, they are the text of files by name, which
count as if they lay in the directory of the spec already; None stands for a
file that is to go.
"""

import json
import os
import shutil
import tempfile

from salt.exceptions import CommandExecutionError


def hcl(values):
    """
    The text of a ``*.auto.vars.hcl`` file with values of variables.

    .. code-block:: bash

        salt-call overlayd.hcl '{clients: [ada, grace]}'
    """
    lines = ["# Written by Salt, which undoes other changes."]
    lines += [f"{name} = {_expression(values[name])}" for name in sorted(values)]
    return "\n".join(lines) + "\n"


def _expression(value, indent=""):
    inner = indent + "  "
    if isinstance(value, dict):
        items = [
            f"{_quote(str(key))} = {_expression(item, inner)}"
            for key, item in value.items()
        ]
        return _block("{", "}", items, indent)
    if isinstance(value, (list, tuple, set)):
        return _block("[", "]", [_expression(item, inner) for item in value], indent)
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return _quote(str(value))


def _block(first, last, items, indent):
    if not items:
        return first + last
    return "\n".join([first] + [f"{indent}  {item}," for item in items] + [indent + last])


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\"}
_ESCAPES.update({code: f"\\u{code:04x}" for code in [*range(0x20), 0x7F]})
_ESCAPES.update({ord("\n"): "\\n", ord("\t"): "\\t"})


def _quote(text):
    text = text.translate(_ESCAPES)
    for mark in "$%":  # which would begin a template
        text = text.replace(mark + "{", mark * 2 + "{")
    return f'"{text}"'


def installed():
    """
    Whether overlayd is there.
    """
    return bool(__salt__["cmd.which"]("overlayd"))


def validate(path="/etc/overlayd", files=None):
    """
    Checks the spec in a directory, with ``files`` in it; says what is wrong,
    nothing if it is valid.

    .. code-block:: bash

        salt '*' overlayd.validate
    """
    code, out, err = _look("validate", [], path, files)
    return "" if code == 0 else err or out


def plan(path="/etc/overlayd", files=None):
    """
    What ``overlayd.apply`` would do, in words, and nothing if the host is as the
    spec says.

    .. code-block:: bash

        salt '*' overlayd.plan
    """
    code, out, err = _look("plan", ["--detailed-exitcode"], path, files)
    if code not in (0, 2):
        raise CommandExecutionError(err or out)
    return out if code == 2 else ""


def changes(path="/etc/overlayd", files=None):
    """
    The changes of the plan, as data: see the output of ``overlayd plan --json``.

    .. code-block:: bash

        salt '*' overlayd.changes
    """
    code, out, err = _look("plan", ["--json"], path, files)
    if code != 0:
        raise CommandExecutionError(err or out)
    return json.loads(out)["changes"]


def apply_(path="/etc/overlayd", allow_empty=False):
    """
    Makes the host as the spec says. Returns the report, as data: see the output
    of ``overlayd apply --json``. What could not be done is in there, too.

    .. code-block:: bash

        salt '*' overlayd.apply
    """
    options = ["--auto-approve", "--json"]
    if allow_empty:
        options.append("--allow-empty")
    _, out, err = _run("apply", *options, path)
    try:
        report = json.loads(out)
    except ValueError:
        raise CommandExecutionError(err or out) from None
    if "error" in report:
        raise CommandExecutionError(report["error"])
    return report


__func_alias__ = {"apply_": "apply"}


def _run(*arguments):
    ret = __salt__["cmd.run_all"](
        ["overlayd", *arguments], python_shell=False, ignore_retcode=True
    )
    return ret["retcode"], ret["stdout"], ret["stderr"]


def _look(command, options, path, files):
    if not files:
        return _run(command, *options, path)
    with tempfile.TemporaryDirectory(prefix="overlayd-") as candidate:
        if os.path.isdir(path):
            for name in os.listdir(path):
                source = os.path.join(path, name)
                if name.endswith(".hcl") and os.path.isfile(source):
                    shutil.copy(source, candidate)
        for name, text in files.items():
            target = os.path.join(candidate, name)
            if text is None:
                if os.path.exists(target):
                    os.remove(target)
            elif isinstance(text, str):
                with open(target, "w", encoding="utf-8") as file:
                    file.write(text)
            else:
                raise CommandExecutionError(f"there is no source for {path}/{name}")
        return _run(command, *options, "--as", path, candidate)
