"""What templates give. The values were measured with ansible-core 2.19 on the same text."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.exceptions import UndefinedError

from clusteradm.playbook import Templates
from clusteradm.playbook.render.conditions import NoCondition, holds
from clusteradm.playbook.render.jinja import TemplateProblem, error_line
from clusteradm.playbook.render.undefined import Undefined, strict

SCOPE: dict[str, Any] = {"n": 5, "none_v": None, "words": ["b", "a", "b"], "d": {"a": 1}, "result": {"changed": True}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ n }}", 5),
        ("{{ 5 }}", 5),
        ("{{ true }}", True),
        (" {{ n }} ", " 5 "),
        ("{{ n }}\n", 5),
        ("{{ none }}", None),
        ("{{ none_v }}", None),
        ("x {{ none }} {{ true }} {{ 1.0 }} {{ [1, 'a'] }}", "x  True 1.0 [1, 'a']"),
        ("{% if false %}x{% endif %}", None),
        ("{% for i in [1, 2] %}\n{{ i }}\n{% endfor %}\n", "1\n2\n"),
        ("{% for i in [1, 2] %}{{ i }}{% endfor %}", "12"),
        ("{% if true %}{{ n }}{% endif %}", 5),
        ("{# note #}{{ n }}", 5),
        ("{% set x = 1 %}{{ x }}", 1),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{{ [1, 2] | map('int') }}", [1, 2]),
        ("{{ '[1,2]' }}", "[1,2]"),
        ("{{ 'yes' }}", "yes"),
        ("{{ d.a }}{{ d['a'] }}", "11"),
        # A regular expression in YAML has single backslashes.
        (r"{{ 'a1' | regex_replace('([a-z])(\d)', '\2\1') }}", "1a"),
        ("{{ nothing | default('d') }}", "d"),
        ("{{ nothing.of.the['kind'] | default('d') }}", "d"),
        ("{{ words[7] | default('d') }}", "d"),
        ("{{ '' | default('d', true) }}", "d"),
        ("{{ n is defined and nothing is not defined }}", True),
    ],
)
def test_a_string_of_a_playbook(text: str, value: Any) -> None:
    assert Templates().string(text, SCOPE) == value
    assert type(Templates().string(text, SCOPE)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("words | difference(['a'])", ["b"]),
        ("words | union(['c'])", ["b", "a", "c"]),
        ("words | intersect(['b'])", ["b"]),
        ("words | unique", ["b", "a"]),
        ("[[1, [2]], none, 3] | flatten", [1, 2, 3]),
        ("[[1, [2]], 3] | flatten(1)", [1, [2], 3]),
        ("[1, 2] | zip(['a', 'b']) | list", [[1, "a"], [2, "b"]]),
        ("{'a': {'x': 1}} | combine({'a': {'y': 2}})", {"a": {"y": 2}}),
        ("{'a': {'x': 1}} | combine({'a': {'y': 2}}, recursive=true)", {"a": {"x": 1, "y": 2}}),
        ("{'a': 1} | dict2items", [{"key": "a", "value": 1}]),
        ("'a' | extract({'a': {'b': 3}}, 'b')", 3),
        ("'x' | b64encode | b64decode", "x"),
        ("'abc' | hash('sha256')", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("'/a/b.c' | basename ~ ('/a/b.c' | dirname)", "b.c/a"),
        ('"it\'s" | quote', "'it'\"'\"'s'"),
        ("['Yes', 'no', 1, 0, 'x'] | map('bool') | list", [True, False, True, False, False]),
        ("{'a': [1, none]} | to_json", '{"a": [1, null]}'),
        ("{'b': 1, 'a': 2} | to_nice_json", '{\n    "a": 2,\n    "b": 1\n}'),
        ("{'a': [1, 2]} | to_yaml", "a: [1, 2]\n"),
        ("'{\"a\": 1}' | from_json", {"a": 1}),
        ("'ab12' | regex_search('[0-9]+')", "12"),
        ("'ab12' | regex_search('[0-9]$|x')", "2"),
        ("'ab' | regex_search('(a)(b)', '\\\\2', '\\\\1')", ["b", "a"]),
        ("'a1b2' | regex_findall('[0-9]')", ["1", "2"]),
        ("'a.b' | regex_escape", "a\\.b"),
        ("'http://u@h.example:80/p' | urlsplit('hostname')", "h.example"),
        ("true | ternary('a', 'b')", "a"),
        ("result is changed and result is succeeded and result is not failed and result is not skipped", True),
        ("'abc' is match('b') or 'abc' is search('^x')", False),
        ("'abc' is match('ab') and 'abc' is search('c')", True),
        ("['/dev/null' is file, '/etc/passwd' is file, '/nowhere' is file]", [False, True, False]),
        ("['6.1.0-18-amd64' is version('6.4', '<'), '1.10' is version('1.9', '>')]", [True, True]),
        ("[{'v': ['1', '2']}] | selectattr('v', 'contains', '2') | list | length", 1),
        ("words | select('in', ['a']) | list", ["a"]),
    ],
)
def test_filters_and_tests(text: str, value: Any) -> None:
    assert Templates().expression(text, SCOPE) == value


def test_a_file_has_its_own_backslashes_and_newlines() -> None:
    templates = Templates()
    assert templates.file("{{ 'a1' | regex_replace('(\\\\d)', '<\\\\1>') }}\n\n", "f", SCOPE) == "a<1>\n\n"
    assert templates.file("{% if false %}\nx\n{% endif %}\n", "f", SCOPE) == ""
    assert templates.file("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "f", SCOPE) == "a\n    b\n  c\n"
    assert templates.file("{{ none }}x{{ true }}", "f", SCOPE) == "xTrue"


def test_undefined_is_an_error_only_when_it_is_used() -> None:
    templates = Templates()
    assert isinstance(templates.string("{{ nothing }}", SCOPE), Undefined)
    for text in ("a{{ nothing }}", "{{ nothing + 1 }}", "{{ nothing | to_json }}", "{{ [nothing] | to_json }}"):
        with pytest.raises(Exception, match="'nothing' is undefined"):
            templates.string(text, SCOPE)
    with pytest.raises(Exception, match="has no attribute 'b'"):
        strict(templates.string("{{ [d.b] }}", SCOPE))


def test_an_error_in_a_file_has_its_line() -> None:
    with pytest.raises(Exception, match="'nothing' is undefined") as caught:
        Templates().file("a\nb\n{% if true %}\n{{ nothing }}\n{% endif %}\n", "f.j2", SCOPE)
    assert error_line(caught.value, "f.j2") == 4
    with pytest.raises(TemplateProblem) as syntax:
        Templates().check_file("a\n{% if %}\n", "f.j2")
    assert syntax.value.line == 2


@pytest.mark.parametrize(
    ("condition", "value"),
    [(True, True), ("n == 5", True), ("'x' in words", False), ("{{ n == 4 }}", False)],
)
def test_conditions(condition: Any, value: bool) -> None:
    assert holds(condition, Templates(), SCOPE) is value


@pytest.mark.parametrize("condition", ["n", "words", "'yes'", "none"])
def test_a_condition_is_true_or_false(condition: str) -> None:
    with pytest.raises(NoCondition, match="not a boolean"):
        holds(condition, Templates(), SCOPE)


def test_an_if_without_else_is_nothing_beside_something_and_no_value_by_itself() -> None:
    templates = Templates()
    assert templates.string("{{ 'a' if false }}b", {}) == "b"
    assert templates.file("x{{ 'a' if false }}\n", "f", {}) == "x\n"
    with pytest.raises(UndefinedError):
        strict(templates.string("{{ ['x', 'a' if false] }}", {}))
    with pytest.raises(UndefinedError):
        strict(templates.string("{{ 'a' if false }}", {}))
