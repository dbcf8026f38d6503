"""Templates of another person: they reach values, never Python, and end in bounded time and memory.

What is refused was compared with ansible-playbook (ansible-core 2.19), which differs in two cases: it allows
`'{0.__class__}'.format(x)`, and has no limits.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError

from clusteradm.errors import InputErrors
from clusteradm.inventory import load as load_inventory
from clusteradm.playbook import Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.render import regex
from clusteradm.playbook.render.jinja import TemplateProblem
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import GLOBALS
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState
from tests.unit.playbook.conftest import INVENTORY, Play

SCOPE: dict[str, Any] = {**GLOBALS, "words": ["b", "a"], "d": {"_x": 5, "__class__": "own"}, "s": "text"}

_READ = ".os.popen('id').read()"
ATTACKS = [
    "cycler.__init__.__globals__" + _READ,
    "lipsum.__globals__" + _READ,
    "lipsum.__globals__['os'].popen('id').read()",
    "joiner.__init__.__globals__" + _READ,
    "namespace.__init__.__globals__" + _READ,
    "self.__init__.__globals__.__builtins__.__import__('os').popen('id').read()",
    "self._TemplateReference__context",
    "''.__class__.__mro__[1].__subclasses__()",
    "''['__class__']['__mro__']",
    "().__class__.__bases__[0].__subclasses__()",
    "''|attr('__class__')",
    "''|attr('__cla' ~ 'ss__')",
    "''|attr('\\x5f\\x5fclass\\x5f\\x5f')",
    "['']|map(attribute='__class__')|list",
    "['']|map('attr', '__class__')|list",
    "['']|selectattr('__class__')|list",
    "['']|rejectattr('__class__.__mro__')|list",
    "['']|groupby('__class__')",
    "['', 'a']|sort(attribute='__class__.__mro__')",
    "['']|sum(attribute='__class__')",
    "''|extract('__class__')",
    "'__class__'|extract('')",
    "'upper'|extract('', ['__self__', '__class__'])",
    "'{0.__class__}'.format('')",
    "'{0.__class__.__mro__[1]}'.format('')",
    "'{a.__class__}'.format_map({'a': ''})",
    "'{a[__class__]}'.format(a='')",
    "('{0.__cla' + 'ss__}').format('')",
    "(''|attr('format')).__self__",
    "range.__class__",
    "omit.__class__.__init__.__globals__",
    "now.__globals__",
    "now().__class__.__subclasses__()",
    "(words|map('upper')).gi_frame",
    "(words|map('upper')).gi_code",
    "dict.__base__.__subclasses__()",
    "dict.mro()",
    "x.__init__.__globals__",
    "get_flashed_messages.__globals__",
    "config.__class__",
    "request.application.__globals__",
    "lookup('pipe', 'id')",
    "lookup('env', 'HOME')",
    "lookup('ansible.builtin.url', 'http://example.invalid')",
    "query('pipe', 'id')",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", ["string", "file", "expression"])
def test_no_template_reaches_python(attack: str, form: str) -> None:
    templates = Templates()
    render: dict[str, Callable[[], Any]] = {
        "string": lambda: strict(templates.string("{{ " + attack + " }}", SCOPE)),
        "file": lambda: templates.file("{{ " + attack + " }}", "x.j2", SCOPE),
        "expression": lambda: strict(templates.expression(attack, SCOPE)),
    }
    with pytest.raises((TemplateError, TemplateProblem, TypeError, ValueError)) as refused:
        print(render[form]())
    assert isinstance(refused.value, SecurityError | UndefinedError | TemplateProblem) or "extract" in attack


@pytest.mark.parametrize(
    "statement",
    ["{% include '/etc/passwd' %}", "{% import '/etc/passwd' as x %}", "{% extends '/etc/passwd' %}x"],
)
def test_no_template_reads_another_file(statement: str) -> None:
    with pytest.raises((TypeError, TemplateError), match="no loader"):
        Templates().file(statement, "x.j2", SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ ''.__class__ is defined }}", False),
        ("{{ ''.__class__ | default('d') }}", "d"),
        ("{{ d._x }}", 5),
        ("{{ d.__class__ }}", "own"),
        ("{{ (6).__and__(3) }}", 2),
        ("{{ (1).real }}", 1),
        ("{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}", [1, 2]),
        ("{{ '{:>4}|{}'.format('a', words[0]) }}", "   a|b"),
        ("{{ '{a[_x]}'.format(a=d) }}", "5"),
        ("{{ '%04d %s' % (7, 'x') }}", "0007 x"),
        ("{{ 'a' ~ 1 ~ none }}", "a1None"),
        ("{% for i in range(3) if i %}{{ loop.index }}/{{ loop.length }}{% endfor %}", "1/22/2"),
        ("{{ range(200000) | length }}", 200000),
        ("{{ range(1000000000) | random < 0 }}", False),
        ("{{ 2 ** 10 * 3 + 1 }}", 3073),
    ],
)
def test_what_ansible_allows_is_allowed(template: str, value: Any) -> None:
    assert Templates().string(template, SCOPE) == value


def test_a_sample_agrees_with_ansible(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        pytest.skip("ansible is not installed (it needs Python 3.11)")
    refused = [f"{{{{ {ATTACKS[n]} }}}}" for n in (0, 1, 5, 6, 8, 10, 13, 15)]
    allowed = [
        "{{ ''.__class__ is defined }}",
        "{{ ''.__class__ | default('d') }}",
        "{{ {'_x': 5}._x }}",
        "{{ (6).__and__(3) }}",
        "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}",
        "{{ '%04d %s' % (7, 'x') }}",
        "{{ range(200000) | length }}",
        "{{ 'a' ~ 1 }}",
    ]
    tasks: list[dict[str, Any]] = [
        {"debug": {"msg": text}, "register": f"r{n}", "ignore_errors": True}
        for n, text in enumerate([*refused, *allowed])
    ]
    results = ", ".join(f"r{n}" for n in range(len(tasks)))
    tasks.append({"copy": {"content": "{{ [" + results + "] | to_json }}", "dest": str(tmp_path / "results")}})
    (tmp_path / "site.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    variables = ["-e", f"ansible_python_interpreter={sys.executable}"]
    command = [str(program), "-i", "localhost,", "-c", "local", *variables, str(tmp_path / "site.yml")]
    env = {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    subprocess.run(command, check=True, capture_output=True, env=env, cwd=tmp_path)
    theirs = json.loads((tmp_path / "results").read_text())
    for text, result in zip([*refused, *allowed], theirs, strict=True):
        try:
            value = strict(Templates().string(text, GLOBALS))
        except SecurityError as error:
            assert result["failed"], text
            assert str(error).removesuffix(".") in result["msg"]
        else:
            assert not result["failed"], text
            assert result["msg"] == value


BOMBS = [
    "{{ range(10**9) | list }}",
    "{{ range(10**9) }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 10 ** (10 ** 8) }}",
    "{{ 7 ** (7 ** (7 ** 7)) }}",
    "{% for a in range(10**5) %}{% for b in range(10**5) %}{% endfor %}{% endfor %}",
    "{% for a in range(10**9) %}{{ a }}{% endfor %}",
    "{% for a in range(10**9) if false %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | string }}",
    "{% set n = namespace(x=7) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}{% endfor %}{{ l }}",
    "{% set l = [1] %}{% set _ = l.append(l) %}{{ l }}",
    "{% set l = [1] %}{% set _ = l.extend(range(10**9)) %}",
    "{% set l = [] %}{% for i in range(10**6) %}{% set _ = l.append('a' * 10**6) %}{% endfor %}{{ l | length }}",
    "{% for i in range(10**6) %}{{ 'a' * 10**6 }}{% endfor %}",
    "{{ 'a'.center(10**10) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ 'a'.zfill(10**10) }}",
    "{{ ('\\t' * 10**5).expandtabs(10**6) }}",
    "{{ ('a' * 10**5).replace('a', 'b' * 10**6) }}",
    "{{ ('a' * 10**6).join(['b'] * 10**5) }}",
    "{{ ('a' * 10**5) | replace('a', 'b' * 10**6) }}",
    "{{ (['b'] * 10**5) | join('a' * 10**6) }}",
    "{{ (['b'] * 10**5) | map('upper') | join('a' * 10**6) }}",
    "{{ ('a' * 10**5).translate({97: 'b' * 10**6}) }}",
    "{{ 'a' | center(10**10) }}",
    "{{ 'a\\nb' | indent(10**10) }}",
    "{{ ('a\\n' * 10**5) | indent('b' * 10**6) }}",
    "{{ [1] | batch(10**10, 'x') | list }}",
    "{{ [1] | slice(10**10) | list }}",
    "{{ 1 | round(10**10) }}",
    "{{ 1.5 | round(10**9, 'ceil') }}",
    "{{ [1] | to_nice_json(10**10) }}",
    "{{ [1] | tojson(10**10) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (10**10, 1) }}",
    "{{ '%.9999999999f' % 1 }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ ('%(a)s' * 10**5) % {'a': 'b' * 10**6} }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**10) }}",
    "{{ ('{0}' * 10**5).format('b' * 10**6) }}",
    "{{ '%9999999999Y' | strftime }}",
    "{{ now().strftime('%9999999999Y') }}",
    "{{ now(fmt='%9999999999Y') }}",
    "{{ (1).to_bytes(10**10, 'big') }}",
    "{{ (1).__lshift__(10**10) }}",
    "{{ range(10**4) | list | product(range(10**4), range(10**4)) | length }}",
    "{{ range(10**6) | list | unique | length }}",
    "{{ range(10**5) | map('string') | list | difference(['x']) | intersect(range(10**5) | list) }}",
    "{{ ([[1]] * 10**5) | sum(start=[]) }}",
    "{{ lipsum(n=10**9) }}",
    "{{ lipsum(min=10**9, max=10**9 + 1) }}",
    "{{ dict.fromkeys(range(10**9)) }}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "{{ words | regex_replace('(a|b)*', 'x' * 10**9) }}",
    "{{ ('a' * 10**5) | regex_replace('a', 'b' * 10**6) }}",
    "{{ '" + "(" * 100000 + "' }}" + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{{ " + "9" * 5000 + " }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda text: text[:60])
def test_a_template_that_makes_too_much_ends_with_an_error(bomb: str) -> None:
    begun = time.thread_time()
    with pytest.raises((TemplateError, TemplateProblem, ValueError, OverflowError)) as refused:
        strict(Templates().string(bomb, SCOPE))
    assert 10 < len(str(refused.value)) < 400
    assert time.thread_time() - begun < 10


def processor_seconds() -> float:
    """Of this process and of the searches in processes of their own that have ended."""
    mine, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime


CATASTROPHES = [
    "(a+)+$",
    "(a|a)*$",
    "(a*)*$",
    "(a?){40}a{40}$",
    "a*a*a*a*a*a*a*a*$",
    "(.*)*x",
    r"^(\w+\s?)*$",
    "(a|aa)+$",
]


@pytest.mark.parametrize("pattern", CATASTROPHES)
@pytest.mark.parametrize(
    "use",
    [
        "(TEXT) | regex_search(PATTERN)",
        "(TEXT) | regex_replace(PATTERN, 'x')",
        "(TEXT) | regex_findall(PATTERN)",
        "(TEXT) is search(PATTERN)",
        "(TEXT) is match(PATTERN)",
        "[TEXT] | select('match', PATTERN) | list",
    ],
)
def test_a_regular_expression_ends(pattern: str, use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.playbook.render.regex.SECONDS", 0.05)
    begun = processor_seconds()
    text = use.replace("TEXT", "'" + "a" * 60 + "!'").replace("PATTERN", repr(pattern).replace("\\\\", "\\"))
    try:
        Templates().string("{{ " + text + " }}", SCOPE)
    except TemplateError as error:
        assert "0.05 s" in str(error)
        assert repr(pattern) in str(error)
    assert processor_seconds() - begun < 4


def test_the_time_that_a_search_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert regex.SECONDS == 5
    monkeypatch.setattr(regex, "SECONDS", 0.5)
    begun = processor_seconds()
    with pytest.raises(TemplateError, match=r"no end in 0.5 s"):
        Templates().string("{{ ('a' * 60 ~ '!') | regex_search('(a|aa)+$') }}", SCOPE)
    assert 0.4 < processor_seconds() - begun < 5


def test_many_searches_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.playbook.render.regex.SECONDS", 0.05)
    begun = processor_seconds()
    with pytest.raises(TemplateError, match="makes too much"):
        Templates().string("{{ (['a' * 1000] * 2000) | map('regex_replace', '(a|b)+a+', 'x') | list }}", SCOPE)
    with pytest.raises(TemplateError, match="makes too much"):
        Templates().string("{{ (['a' * 1000] * 5000) | select('search', 'a*b') | list }}", SCOPE)
    assert processor_seconds() - begun < 20


def test_a_slow_pattern_gives_what_python_gives() -> None:
    templates = Templates()
    scope = {**SCOPE, "long": "key=value " * 300}
    assert templates.string(r"{{ long | regex_replace('(\w+)=(\w+)( +)', '\2=\1;') }}", scope) == "value=key;" * 300
    assert templates.string(r"{{ long | regex_findall('(\w+)=(\w+)( *)') | length }}", scope) == 300
    assert templates.string(r"{{ long | regex_search('(\w+)=(\w+) *(\w+)', '\3') }}", scope) == ["key"]
    assert templates.string(r"{{ long is match('(k|e|y)+=(\w+) *') }}", scope) is True
    assert templates.string(r"{{ long | regex_search('(k|x)+(z|y)+ *#') }}", scope) is None


def test_the_answer_of_a_host_is_data(play: Play) -> None:
    outcome = play(
        """
        - hosts: w1
          gather_facts: false
          become: false
          vars:
            shown: "{{ answer.stdout }}"
            condition: "1 == 1"
            chain: "{{ condition }}"
            nested: {c: "1 == 1"}
            foreign: "{{ expression.stdout }}"
          tasks:
            - name: answer
              command: echo '{% raw %}{{ 6 * 7 }}{% endraw %}'
              register: answer
            - name: expression
              command: echo '1 == 1 or true'
              register: expression
            - {name: shown, debug: {msg: "{{ shown }} {{ answer.stdout }}"}}
            - {name: fact, set_fact: {fact: "{{ answer.stdout }}"}}
            - {name: fact shown, debug: {msg: "{{ fact }}"}}
            - {name: item, debug: {msg: "{{ item }}"}, loop: "{{ answer.stdout_lines }}"}
            - {name: view, debug: {msg: "{{ hostvars.w1.answer.stdout }}"}}
            - {name: written, debug: {msg: ran}, when: "{{ condition }}"}
            - {name: chain, debug: {msg: ran}, when: "{{ chain }}"}
            - {name: nested, debug: {msg: ran}, when: "{{ nested.c }}"}
            - {name: direct, debug: {msg: ran}, when: "{{ expression.stdout }}", ignore_errors: true}
            - {name: constant, debug: {msg: ran}, when: "{{ '2 == 2' }}", ignore_errors: true}
            - {name: foreign, debug: {msg: ran}, when: "{{ foreign }}", ignore_errors: true}
        """
    )
    text = "{{ 6 * 7 }}"
    assert outcome.result("w1", "shown")["msg"] == f"{text} {text}"
    assert outcome.result("w1", "fact shown")["msg"] == text
    assert outcome.result("w1", "item")["results"][0]["msg"] == text
    assert outcome.result("w1", "view")["msg"] == text
    for task in ("written", "chain", "nested"):
        assert outcome.result("w1", task)["msg"] == "ran"
    for task in ("direct", "constant", "foreign"):
        assert "not written in a playbook or inventory" in outcome.result("w1", task)["msg"]


@pytest.mark.parametrize("attack", ["- " * 100_000, "[" * 100_000, "a: &a [*a]", "MERGES"])
def test_yaml_in_a_variable(attack: str) -> None:
    merges = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1}, ' * 10}]}}\n" for n in range(1, 12))
    scope = {"text": merges if attack == "MERGES" else attack}
    with pytest.raises((ValueError, TemplateError), match=r"nested|contains itself|stands for more"):
        Templates().string("{{ text | from_yaml }}", scope)


def test_unsafe_text_of_the_inventory_is_no_template(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY.replace("colour: blue", "colour: !unsafe '{{ 6 * 7 }}'"))
    (tmp_path / "site.yml").write_text("- {hosts: w2, gather_facts: false, tasks: [debug: {msg: '{{ colour }}'}]}\n")
    cluster = load_inventory(path)
    templates = Templates()
    playbook = load_playbook(tmp_path / "site.yml", cluster, templates)
    run_state = RunState(cluster.hosts.values())
    planner = Planner(playbook, run_state, templates, check=False, diff=False, limit=None)
    (play,) = playbook.plays
    planned = planner.plan(run_state.hosts["w2"], play, play.steps[-1])
    assert (planned.result or {})["msg"] == "{{ 6 * 7 }}"


def test_variables_that_multiply_or_call_each_other(play: Play) -> None:
    doubled = "".join(f'\n            a{n}: "{{{{ a{n + 1} }}}}{{{{ a{n + 1} }}}}"' for n in range(60))
    lists = "".join(f'\n            l{n}: ["{{{{ l{n + 1} }}}}", "{{{{ l{n + 1} }}}}"]' for n in range(60))
    begun = processor_seconds()
    outcome = play(
        f"""
        - hosts: w1
          gather_facts: false
          vars:{doubled}
            a60: ab{lists}
            l60: ab
            one: "{{{{ other }}}}"
            other: "{{{{ one }}}}"
          tasks:
            - {{name: texts, debug: {{msg: "{{{{ a0 }}}}"}}, ignore_errors: true}}
            - {{name: lists, debug: {{msg: "{{{{ l0 }}}}"}}, ignore_errors: true}}
            - {{name: itself, debug: {{msg: "{{{{ one }}}}"}}, ignore_errors: true}}
        """
    )
    assert "makes too much" in outcome.result("w1", "texts")["msg"]
    assert "makes too much" in outcome.result("w1", "lists")["msg"]
    assert "itself" in outcome.result("w1", "itself")["msg"]
    assert processor_seconds() - begun < 30


def test_the_error_names_file_and_line(tmp_path: Path, play: Play) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "x.j2").write_text("fine\n{{ cycler.__init__.__globals__.os }}\n")
    outcome = play(
        """
        - hosts: w1
          gather_facts: false
          tasks:
            - {name: file, template: {src: x.j2, dest: /nonexistent/x}, ignore_errors: true}
            - {name: text, debug: {msg: "{{ lipsum.__globals__ }}"}, ignore_errors: true}
        """
    )
    assert f"{tmp_path}/templates/x.j2:2: access to attribute '__init__'" in outcome.result("w1", "file")["msg"]
    assert f"{tmp_path}/site.yml:6: msg: access to attribute '__globals__'" in outcome.result("w1", "text")["msg"]


_LAUGHS = "    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)

PLAYBOOKS = {
    "aliases": ("- hosts: w1\n  vars:\n" + _LAUGHS, 8, "more than 200,000 values"),
    "flow": ("- hosts: w1\n  vars: " + "[" * 200_000, 2, "nested more than 100 deep"),
    "block": ("- " * 200_000 + "x", 1, "nested more than 100 deep"),
    "itself": ("- hosts: w1\n  vars: &v\n    v: *v\n", 2, "contains itself"),
    "number": ("- hosts: w1\n  vars:\n    v: " + "9" * 5000 + "\n", 3, "a number of 5000 characters"),
    "date": ("- hosts: w1\n  vars:\n    v: 2001-99-99\n", 3, "not valid YAML"),
    "object": ("- hosts: w1\n  vars:\n    v: !!python/object/apply:os.system [id]\n", 3, "unknown tag"),
    "twice": ("- hosts: w1\n  vars:\n    v: {a: 1, a: 2}\n", 3, "is there twice"),
    "list as a key": ("- hosts: w1\n  vars:\n    v: {[a]: 1}\n", 3, "not valid YAML"),
    "list as a keyword": ("- hosts: w1\n  [a]: 1\n", 2, ""),
    "merge of text": ("- hosts: w1\n  <<: text\n", 2, "not valid YAML"),
    "large": ("- hosts: w1\n#" + "x" * 1_100_000 + "\n", 0, "larger than 1,048,576 bytes"),
    "template": ("- hosts: w1\n  vars:\n    v: '{{ " + "(" * 5000 + "'\n", 3, "v: "),
    "free form": ("- hosts: w1\n  tasks:\n  - command: chdir=" + "{{a}}" * 40 + '"x\n    nothing: 1\n', 4, ""),
}


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_out_of_bounds(tmp_path: Path, book: Callable[[str], Any], name: str) -> None:
    text, line, message = PLAYBOOKS[name]
    begun = time.thread_time()
    with pytest.raises(InputErrors) as refused:
        book(text)
    assert message in str(refused.value)
    assert (f"{tmp_path}/site.yml:{line}: " if line else f"{tmp_path}/site.yml: ") in str(refused.value)
    assert time.thread_time() - begun < 10


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_files_of_a_playbook_are_files(tmp_path: Path, book: Callable[[str], Any], kind: str) -> None:
    for place in ("templates/t.j2", "files/f", "files/g", "vars/v.yml", "tasks.yml"):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    with pytest.raises(InputErrors) as refused:
        book(
            """
            - hosts: w1
              vars_files: [v.yml]
              tasks:
                - template: {src: t.j2, dest: /x}
                - copy: {src: f, dest: /x}
                - import_tasks: tasks.yml
            """
        )
    for line in (3, 5, 6, 7):
        assert f"{tmp_path}/site.yml:{line}: " in str(refused.value)


def test_a_playbook_is_a_file(tmp_path: Path, cluster: Any) -> None:
    os.mkfifo(tmp_path / "x.yml")
    with pytest.raises(InputErrors, match="it is a FIFO, not a file"):
        load_playbook(tmp_path / "x.yml", cluster)


def test_files_that_import_files_end(tmp_path: Path, book: Callable[[str], Any]) -> None:
    for n in range(12):
        (tmp_path / f"t{n}.yml").write_text(f"- import_tasks: t{n + 1}.yml\n" * 10)
        (tmp_path / f"p{n}.yml").write_text(f"- import_playbook: p{n + 1}.yml\n" * 10)
    (tmp_path / "t12.yml").write_text("[]\n")
    (tmp_path / "p12.yml").write_text("[]\n")
    begun = time.thread_time()
    for text in ("- import_playbook: p0.yml\n", "- hosts: w1\n  tasks:\n  - import_tasks: t0.yml\n"):
        with pytest.raises(InputErrors, match="more than 500 imports"):
            book(text)
    assert time.thread_time() - begun < 20
