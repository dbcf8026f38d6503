"""debconf: answers to a package's questions, set before it is configured."""

from typing import Any, Dict

from clusteradm.node.context import Context, ModuleFailed


def run(options: Dict[str, Any], context: Context) -> Dict[str, Any]:
    """Set the answer if it differs. Without a question: report the package's answers."""
    name, question, kind = options["name"], options["question"], options["vtype"]
    answers = _answers(name, context)
    if question is None:
        return {"changed": False, "msg": "", "current": answers}
    if kind is None or options["value"] is None:
        raise ModuleFailed("when supplying a question you must supply a valid vtype and value")
    value = options["value"]
    if isinstance(value, list) and kind == "multiselect":
        value = sorted(value) if question in answers else value
    else:
        value = str(value).lower() if kind == "boolean" else str(value)
    if question in answers and _same(value, answers[question], options, context):
        return {"changed": False, "msg": "", "current": answers}
    text = ", ".join(value) if isinstance(value, list) else value
    previous, current = {question: answers.get(question, "")}, {question: value if context.check else text}
    result: Dict[str, Any] = {"changed": True, "msg": "", "current": current}
    # As in Ansible: all answers, if there was none to this question.
    result["previous"] = previous if question in answers else dict(answers, **previous)
    if context.diff:
        result["diff"] = {"before": result["previous"], "after": dict(result["previous"], **current)}
    if not context.check:
        flags = ["-u"] if options["unseen"] else []
        line = " ".join((name, question, kind, text))
        done = context.run(["debconf-set-selections", *flags], stdin=line + "\n")
        if done.rc:
            raise ModuleFailed(done.stderr)
        result["msg"] = done.stdout
    return result


def _answers(name: str, context: Context) -> Dict[str, str]:
    done = context.run(["debconf-show", name])
    if done.rc:
        raise ModuleFailed(done.stderr)
    pairs = (line.partition(":") for line in done.stdout.splitlines())
    return {question.strip("*").strip(): answer.strip() for question, colon, answer in pairs if colon}


def _same(value: Any, now: str, options: Dict[str, Any], context: Context) -> bool:
    kind = options["vtype"]
    if kind == "password":  # which debconf-show hides
        return bool(value == _password(options, context))
    if isinstance(value, list):
        return value == sorted(part.strip() for part in now.split(","))
    return bool(value == (now.lower() if kind == "boolean" else now))


def _password(options: Dict[str, Any], context: Context) -> str:
    try:
        done = context.run(["debconf-get-selections"])
    except FileNotFoundError:
        raise ModuleFailed("debconf-get-selections is missing: install debconf-utils") from None
    if done.rc:
        raise ModuleFailed(
            "Failed to get the value '%s' from '%s': %s" % (options["question"], options["name"], done.tail())
        )
    for line in done.stdout.splitlines():
        fields = line.split("\t")
        if fields[:3] == [options["name"], options["question"], "password"]:
            return fields[3] if len(fields) > 3 else ""
    return ""
