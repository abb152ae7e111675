"""
States of overlayd: a spec that is valid before it is laid down, and one that
is applied.

.. code-block:: yaml

    spec:
      overlayd.valid:
        - name: /etc/overlayd
        - files:
            lab.hcl: |
              overlay "a" {
                lowerdirs  = ["/srv/base"]
                mountpoint = "/srv/a"
              }

    applied:
      overlayd.applied:
        - name: /etc/overlayd
"""

from salt.exceptions import CommandExecutionError


def valid(name, files=None):
    """
    The spec is valid, with ``files`` in it, which need not be there yet; if not,
    this state fails, also with test=True, with what overlayd says.

    One check for all files, because neither of two files may be valid without
    the other: a value needs its variable, and a variable its value. ``check_cmd``
    of ``file.managed`` sees one at a time.

    name
        The directory of the spec.

    files
        Text of files by name; None for one that is to go.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The spec is valid."}
    if not __salt__["overlayd.installed"]():
        return _without(ret, "the spec is not checked")
    try:
        wrong = __salt__["overlayd.validate"](name, files)
    except CommandExecutionError as exc:
        wrong = str(exc)
    if wrong:
        ret["result"] = False
        ret["comment"] = f"The new spec is not valid, and the old one stays:\n{wrong}"
    return ret


def applied(name, files=None, allow_empty=False):
    """
    The host is as the spec says. With test=True the comment is the plan.

    name
        The directory of the spec.

    files
        For test=True: what other states would put into the directory, as for
        ``overlayd.valid``.

    allow_empty
        Whether a spec without any overlay may delete all that it had.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    test = __opts__["test"]
    if not __salt__["overlayd.installed"]():
        return _without(ret, "there is no plan")
    try:
        look = (name, files) if test else (name,)
        plan = __salt__["overlayd.plan"](*look)
        if not plan:
            ret["comment"] = "The host is as the spec says."
        elif test:
            ret["result"] = None
            ret["comment"] = plan
            ret["changes"] = {
                change["address"]: change["change"]
                for change in __salt__["overlayd.changes"](*look)
            }
        else:
            _report(ret, __salt__["overlayd.apply"](name, allow_empty))
    except CommandExecutionError as exc:
        ret["result"] = False
        ret["comment"] = str(exc)
    return ret


def _report(ret, report):
    comment = []
    for result in report["results"]:
        if result["status"] == "done":
            ret["changes"][result["address"]] = result["change"]
        else:
            ret["result"] = False
            what = result["change"]
            if what != "conflict":
                what += " " + result["status"]
            comment.append(f"{result['address']}: {what}: {result['error']}")
    comment += [f"kept: {path}" for path in report["kept"]]
    ret["comment"] = "\n".join(comment) or "The spec was applied."


def _without(ret, so):
    ret["comment"] = f"overlayd is not installed: {so}"
    ret["result"] = None if __opts__["test"] else False
    return ret
