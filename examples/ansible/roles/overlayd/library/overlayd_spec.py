#!/usr/bin/python

from __future__ import annotations

DOCUMENTATION = r"""
module: overlayd_spec
short_description: Lay a spec of overlayd down and apply it
description:
  - Writes the files of a spec, and the values of its variables, into the directory that overlayd reads. All files
    together are checked before the first of them replaces an old one.
  - Then has C(overlayd apply) make the host as the spec says. The task is changed when a file or the host has changed.
  - When something cannot be done it fails with overlayd's own words, having done the rest. Run it again to finish.
  - Each file begins with a line that says who laid it down. Files without this line are never removed.
options:
  path:
    description: Directory of the spec.
    type: path
    default: /etc/overlayd
  files:
    description:
      - Files of the spec, the text by name. A name ends in C(.hcl) and has no slash.
      - Such a text comes from the lookup plugin C(ansible.builtin.file) or C(ansible.builtin.template).
    type: dict
    default: {}
  values:
    description: Values of the spec's variables, by name, for C(ansible.auto.vars.hcl).
    type: dict
    default: {}
  purge:
    description:
      - Remove files that this module has laid down before and that are in neither I(files) nor I(values) any more.
      - Without it there is a warning about them, and they count as before.
    type: bool
    default: false
  allow_empty:
    description: Let a spec without any overlay delete all that were applied.
    type: bool
    default: false
requirements:
  - overlayd on the host, except in check mode
notes:
  - In check mode the host stays as it is. The plan is made from a copy of the directory below the temporary directory
    of the task, which goes with it. What overlayd could not do is a warning then, as a task before this one
    may be about to provide what is missing.
  - With C(--diff) it shows how the files differ, and the plan.
author:
  - The overlayd authors
"""

EXAMPLES = r"""
- name: Lay the spec down and apply it
  overlayd_spec:
    files:
      site.hcl: "{{ lookup('ansible.builtin.file', 'site.hcl') }}"
    values:
      clients: [ada, grace]

- name: Apply what is in /etc/overlayd
  overlayd_spec:

- name: Remove what was laid down before, and all overlays
  overlayd_spec:
    purge: true
    allow_empty: true
"""

RETURN = r"""
written:
  description: Files that were written, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/overlayd/site.hcl]
removed:
  description: Files that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: []
plan:
  description: What C(overlayd plan --json) says.
  returned: in check mode, when overlayd is installed
  type: dict
report:
  description: What C(overlayd apply --json) says.
  returned: success, not in check mode
  type: dict
"""

import json
import os
import re
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text

MARK = "# Laid down by Ansible (overlayd_spec). Changes here are lost."
VALUES = "ansible.auto.vars.hcl"


class Failure(Exception):
    """What the task fails with."""


class Overlayd:
    """The program."""

    def __init__(self, module):
        self.module = module
        self.program = module.get_bin_path("overlayd")

    def run(self, *args):
        return self.module.run_command([self.program, *args])

    def result(self, *args):
        """The JSON of a command that may fail, and whether it did."""
        code, out, err = self.run(*args)
        try:
            return json.loads(out), code != 0
        except ValueError:
            raise Failure((err or out).strip() or "overlayd %s: exit code %d" % (args[0], code)) from None


def values_text(values):
    """Values as HCL: JSON, but for the two beginnings of a template."""
    lines = []
    for name in sorted(values):
        text = json.dumps(values[name], ensure_ascii=False, sort_keys=True, indent=2)
        lines.append("%s = %s" % (name, text.replace("${", "$${").replace("%{", "%%{")))
    return "\n".join(lines)


def marked(text):
    return to_bytes("%s\n%s\n" % (MARK, text.rstrip("\n")))


def wanted_files(params):
    files = {}
    for name, text in params["files"].items():
        if not re.match(r"[^./][^/]*\.hcl\Z", name):
            raise Failure("%r cannot name a file of a spec: it ends in .hcl, has no slash, begins with no dot" % name)
        if name == VALUES:
            raise Failure("%s is where the values go: take another name for a file of the spec" % VALUES)
        files[name] = marked(to_text(text))
    if params["values"]:
        files[VALUES] = marked(values_text(params["values"]))
    return files


def found_files(path):
    """The files that overlayd reads in a directory."""
    found = {}
    if not os.path.isdir(path):
        return found
    for name in sorted(os.listdir(path)):
        file = os.path.join(path, name)
        if name.endswith(".hcl") and not name.startswith(".") and os.path.isfile(file):
            with open(file, "rb") as f:
                found[name] = f.read()
    return found


class Spec:
    """The directory as it is and as it is to be."""

    def __init__(self, module):
        self.module = module
        self.path = module.params["path"]
        self.found = found_files(self.path)
        self.wanted = wanted_files(module.params)
        self.write = [name for name, text in self.wanted.items() if self.found.get(name) != text]
        mark = to_bytes(MARK + "\n")
        self.remove = [n for n, text in self.found.items() if n not in self.wanted and text.startswith(mark)]
        if not module.params["purge"]:
            for name in self.remove:
                module.warn("%s was laid down by an earlier run, is no longer asked for, and still counts: remove it, "
                            "or say purge (overlayd_spec_purge of the role)" % self.place(name))
            self.remove = []

    def place(self, name):
        return os.path.join(self.path, name)

    def differs(self):
        return bool(self.write or self.remove)

    def stage(self):
        """Makes the directory as it is to be, in a place that goes with the task."""
        staged = tempfile.mkdtemp(dir=self.module.tmpdir)
        for name, text in {**self.found, **self.wanted}.items():
            if name not in self.remove:
                with open(os.path.join(staged, name), "wb") as f:
                    f.write(text)
        return staged

    def lay(self):
        """Each file appears whole, under its name or not at all."""
        if self.wanted:
            os.makedirs(self.path, mode=0o755, exist_ok=True)
        for name in self.write:
            handle, new = tempfile.mkstemp(dir=self.module.tmpdir)
            with os.fdopen(handle, "wb") as f:
                f.write(self.wanted[name])
            self.module.atomic_move(new, self.place(name))
        for name in self.remove:
            os.remove(self.place(name))

    def attributes(self):
        """overlayd trusts only what is root's. Tells whether a file was not, or is not in check mode."""
        changed = False
        for name in self.wanted:
            if os.path.exists(self.place(name)):
                want = {"owner": "root", "group": "root", "mode": "0644"}
                args = self.module.load_file_common_arguments(want, path=self.place(name))
                changed = self.module.set_fs_attributes_if_different(args, False) or changed
        return changed

    def diff(self):
        out = []
        for name in self.write + self.remove:
            out.append({
                "before_header": self.place(name) if name in self.found else "/dev/null",
                "after_header": "/dev/null" if name in self.remove else self.place(name),
                "before": to_text(self.found.get(name, b""), errors="surrogate_or_replace"),
                "after": "" if name in self.remove else to_text(self.wanted[name]),
            })
        return out


def diagnostics(result):
    """The words of a command that failed before its result."""
    words = [result["error"]]
    for d in result.get("diagnostics") or []:
        place = "%s:%d: " % (d["file"], d["line"]) if d["line"] else ""
        words.append("%s%s: %s" % (place, d["summary"], d["detail"]))
    return "\n".join(words)


def check(overlayd, spec, where):
    """Refuses a spec that apply would refuse, while the old one is still there."""
    code, _out, err = overlayd.run("validate", *where)
    if code != 0:
        raise Failure("%s stays as it was, as the new spec is not valid:\n\n%s" % (spec.path, err.strip()))
    if err.strip():
        spec.module.warn(err.strip())
    if spec.module.params["allow_empty"]:
        return
    plan, failed = overlayd.result("plan", "--json", "--all", *where)
    if failed:
        raise Failure(diagnostics(plan))
    changes = plan["changes"]
    if plan["summary"]["delete"] and not any(c["after"] for c in changes):
        raise Failure("%s stays as it was: the new spec has no overlay, so %d would be deleted; if that is meant, "
                      "say allow_empty (overlayd_allow_empty of the role)" % (spec.path, plan["summary"]["delete"]))


def plan_only(overlayd, spec, where, result):
    """What check mode does once the files are known."""
    plan, failed = overlayd.result("plan", "--json", *where)
    if failed:
        raise Failure(diagnostics(plan))
    for c in plan["changes"]:
        if c["change"] == "conflict":
            spec.module.warn("conflict: %s: %s" % (c["address"], "; ".join(c["reasons"])))
    result["plan"] = plan
    conflicts_only = plan["summary"]["conflict"] == len(plan["changes"])
    result["changed"] = result["changed"] or not (plan["in_sync"] or conflicts_only)


def apply(overlayd, spec, result):
    args = ["--allow-empty"] if spec.module.params["allow_empty"] else []
    report, failed = overlayd.result("apply", "--json", "--auto-approve", *args, spec.path)
    result["changed"] = result["changed"] or report.get("changed", False)
    words = [diagnostics(report)] if report.get("error") else []
    for r in report.get("results", []):
        if r["status"] == "done":
            continue
        if r["change"] == "conflict":
            what = "conflict:"
        else:
            what = ("cannot " if r["status"] == "failed" else "did not ") + r["change"]
        words.append("%s %s: %s" % (what, r["address"], r["error"]))
    if failed:
        raise Failure("\n".join(words))
    result["report"] = report


def run(module, result):
    spec = Spec(module)
    overlayd = Overlayd(module)
    result["written"] = [spec.place(name) for name in spec.write]
    result["removed"] = [spec.place(name) for name in spec.remove]
    if not overlayd.program:
        if not module.check_mode:
            raise Failure("overlayd is not installed on this host")
        result["diff"] = spec.diff()
        result["changed"] = True
        return
    where = ["--as", spec.path, spec.stage()] if spec.differs() else [spec.path]
    if spec.differs():
        check(overlayd, spec, where)
    if module._diff:
        result["diff"] = spec.diff()
        code, text, _err = overlayd.run("plan", "--detailed-exitcode", *where)
        if code == 2:
            result["diff"].append({"prepared": text})
    if not module.check_mode:
        spec.lay()
    result["changed"] = spec.attributes() or spec.differs()
    if module.check_mode:
        plan_only(overlayd, spec, where, result)
    else:
        apply(overlayd, spec, result)


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/overlayd"},
            "files": {"type": "dict", "default": {}},
            "values": {"type": "dict", "default": {}},
            "purge": {"type": "bool", "default": False},
            "allow_empty": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result = {"changed": False}
    try:
        run(module, result)
    except Failure as failure:
        module.fail_json(msg=str(failure), changed=result["changed"])
    except OSError as error:
        module.fail_json(msg="cannot lay down the spec in %s: %s" % (module.params["path"], error),
                         changed=result["changed"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
