#!/usr/bin/python3
"""
As much of `salt-call --local --out=json state.apply overlayd` as the example
needs, on a host without Salt: renders the state file by Jinja and YAML, checks
each state's name and arguments, orders states by their requisites, and runs
them. The modules below /srv/salt/_modules and /srv/salt/_states are the real
ones, with __salt__ and __opts__ as Salt's loader would give them. Of Salt's own
functions there are only those that the example uses, and only these arguments.
"""

import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import types

import jinja2
import yaml

ROOT, PILLAR = "/srv/salt", "/srv/pillar"


class CommandExecutionError(Exception):
    pass


def run_all(cmd, python_shell=None, ignore_retcode=False):
    if python_shell or not isinstance(cmd, list):
        raise TypeError(f"not a list without a shell: {cmd}")
    try:
        done = subprocess.run(
            cmd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "LANG": "C"},
        )
    except OSError as exc:
        raise CommandExecutionError(f"Unable to run command {cmd}, reason: {exc}") from exc
    if done.returncode and not ignore_retcode:
        print(f"[ERROR   ] Command {cmd} failed with return code: {done.returncode}", file=sys.stderr)
    return {"pid": 0, "retcode": done.returncode, "stdout": done.stdout.rstrip(), "stderr": done.stderr.rstrip()}


def get_file_str(path, saltenv):
    """False, not an error, for what is not there."""
    try:
        with open(path.replace("salt://", ROOT + "/", 1), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return False


def pillar():
    with open(f"{PILLAR}/overlayd.sls", encoding="utf-8") as file:
        return yaml.safe_load(file)


class Loader:
    def __init__(self, test):
        self.opts = {"test": test, "file_client": "local"}
        self.salt = {
            "cmd.run_all": run_all,
            "cmd.which": shutil.which,
            "cp.get_file_str": get_file_str,
            "pillar.get": lambda key, default: pillar().get(key, default),
        }
        package, exceptions = types.ModuleType("salt"), types.ModuleType("salt.exceptions")
        exceptions.CommandExecutionError = CommandExecutionError
        sys.modules.update({"salt": package, "salt.exceptions": exceptions})
        self.salt.update(self.load("_modules"))
        self.states = self.load("_states")
        self.states.update(
            {
                "pkg.installed": self.pkg_installed,
                "file.managed": self.file_managed,
                "file.absent": self.file_absent,
                "service.running": lambda name, enable: self.service(name, enable, "enable"),
                "service.dead": lambda name, enable: self.service(name, enable, "disable"),
            }
        )

    def load(self, folder):
        functions = {}
        for name in os.listdir(f"{ROOT}/{folder}"):
            if not name.endswith(".py"):
                continue
            spec = importlib.util.spec_from_file_location(f"{folder}.{name}", f"{ROOT}/{folder}/{name}")
            module = importlib.util.module_from_spec(spec)
            module.__salt__, module.__opts__ = self.salt, self.opts
            spec.loader.exec_module(module)
            alias = getattr(module, "__func_alias__", {})
            for attribute, function in vars(module).items():
                if inspect.isfunction(function) and not attribute.startswith("_"):
                    functions[f"{name[:-3]}.{alias.get(attribute, attribute)}"] = function
        return functions

    def outcome(self, name, change, do):
        """What a state of Salt's own returns: done, to be done, or nothing to do."""
        if change and not self.opts["test"]:
            do()
        result = None if change and self.opts["test"] else True
        return {"name": name, "changes": change or {}, "result": result, "comment": ""}

    def pkg_installed(self, name, sources=None):
        there = subprocess.run(["dpkg", "-s", "overlayd"], capture_output=True, check=False).returncode == 0
        what = [path for source in sources for path in source.values()] if sources else [name]
        return self.outcome(
            name,
            None if there else {"overlayd": {"old": "", "new": "installed"}},
            lambda: subprocess.run(["apt-get", "install", "-qqy", *what], check=True, stdout=sys.stderr),
        )

    def file_managed(self, name, user, group, mode, makedirs, source=None, contents=None):
        assert (user, group, makedirs, isinstance(mode, str)) == ("root", "root", True, True)
        text = get_file_str(source, "base") if source else contents
        old = get_file_str(name, "base")

        def write():
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(name, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(name, int(mode, 8))

        return self.outcome(name, None if old == text else {"diff": "differs"}, write)

    def service(self, name, enable, verb):
        assert enable is (verb == "enable")
        active = subprocess.run(["systemctl", "is-active", "--quiet", name], check=False).returncode == 0
        return self.outcome(
            name,
            {name: enable} if active != enable else None,
            lambda: subprocess.run(["systemctl", verb, "--quiet", "--now", name], check=True),
        )

    def file_absent(self, name):
        return self.outcome(name, {"removed": name} if os.path.exists(name) else None, lambda: os.remove(name))


REQUISITES = ("require", "require_in")


def low(loader, text):
    """The states in the order of the file, with their requisites as lists of (module, ID)."""
    states = {}
    for ident, body in yaml.safe_load(text).items():
        ((function, arguments),) = body.items()
        kwargs = {"name": ident}
        for argument in arguments:
            ((key, value),) = argument.items()
            if key in kwargs and key != "name":
                raise ValueError(f"{ident}: {key} is given twice")
            kwargs[key] = value
        requisites = {key: [next(iter(r.items())) for r in kwargs.pop(key, [])] for key in REQUISITES}
        inspect.signature(loader.states[function]).bind(**kwargs)
        states[(function.split(".")[0], ident)] = (function, kwargs, requisites)
    for key, (_, _, requisites) in states.items():
        for target in requisites["require_in"]:
            states[target][2]["require"].append(key)
    return states


def run(loader, states):
    report = {}

    def visit(key):
        function, kwargs, requisites = states[key]
        module, name = function.split(".")
        tag = f"{module}_|-{key[1]}_|-{kwargs['name']}_|-{name}"
        if tag not in report:
            failed = [needed for needed in requisites["require"] if visit(needed)["result"] is False]
            if failed:
                outcome = {"result": False, "changes": {}, "comment": f"One or more requisite failed: {failed}"}
            else:
                outcome = loader.states[function](**kwargs)
            report[tag] = outcome
        return report[tag]

    for key in states:
        visit(key)
    return report


def main():
    loader = Loader(test="test=True" in sys.argv)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do"])
    with open(f"{ROOT}/overlayd/init.sls", encoding="utf-8") as file:
        text = environment.from_string(file.read()).render(salt=loader.salt, saltenv="base")
    report = run(loader, low(loader, text))
    json.dump({"local": report}, sys.stdout, indent=1)
    sys.exit(2 if any(state["result"] is False for state in report.values()) else 0)


main()
