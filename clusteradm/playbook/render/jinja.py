"""Jinja2 as Ansible uses it: native values, strict about undefined ones; each text is compiled only once.

The value of a template (measured against ansible-core 2.19): of a single expression its native value; of several parts
their text, without those that are None; of an empty template None. Trailing newlines of the template are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import jinja2
from jinja2.lexer import TokenStream
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context

from clusteradm.playbook.render import filters
from clusteradm.playbook.render.undefined import Undefined, is_no_else, strict

Scope = Mapping[str, Any]


class TemplateProblem(Exception):
    """A template that cannot be compiled. `line` counts from 1 within its text."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Context(Context):
    """Looks up each name when it is used, because a variable is a template too and may depend on another host."""

    def get_all(self) -> dict[str, Any]:
        # Only {% import %} and {% include %} call this; neither has a loader here.
        return dict(self.vars)


class _CodeGenerator(NativeCodeGenerator):
    """Keeps the type of constants: {{ true }} is True, not the text "True"."""

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        values = list(group)
        return repr(values[0] if len(values) == 1 else _concat(values))


def _concat(nodes: Iterable[Any]) -> Any:
    parts = [_plain(node) for node in nodes if node is not None]
    if len(parts) > 1:
        return "".join(str(strict(part)) for part in parts if not is_no_else(part))
    return parts[0] if parts else None


def _plain(value: Any) -> Any:
    """The value with generators and views, which filters return, made lists."""
    if isinstance(value, str | dict | list | tuple | jinja2.Undefined) or not isinstance(value, Iterable | Iterator):
        return value
    return value if isinstance(value, Mapping) else list(value)


def _put_out(value: Any) -> Any:
    return "" if is_no_else(value) else strict(value)


class _Environment(jinja2.Environment):
    code_generator_class = _CodeGenerator
    context_class = _Context
    concat = staticmethod(_concat)

    def __init__(self, *, escape_backslashes: bool, finalize: Callable[[Any], Any] | None = None) -> None:
        super().__init__(trim_blocks=True, undefined=Undefined, finalize=finalize)
        self.optimized = False  # constant folding would turn native constants into text
        self._escape_backslashes = escape_backslashes
        self.filters.update(filters.FILTERS)
        self.tests.update(filters.TESTS)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        tokens = self.lexer.tokeniter(self.preprocess(source, name, filename), name, filename, state)
        if self._escape_backslashes:
            tokens = _with_escaped_backslashes(tokens)
        return TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)


def _with_escaped_backslashes(tokens: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    """Tokens with the backslashes of strings within {{ }} doubled: in YAML, regular expressions are not escaped."""
    inside = False
    for line, kind, text in tokens:
        inside = kind == "variable_begin" or (inside and kind != "variable_end")
        yield line, kind, text.replace("\\", "\\\\") if inside and kind == "string" else text


class Templates:
    """Compiles and renders templates. One for a whole run, shared by all of its threads."""

    def __init__(self) -> None:
        self._strings = _Environment(escape_backslashes=True)
        # Undefined values raise where they are output, not when the parts are joined, so that an error has a line.
        self._files = _Environment(escape_backslashes=False, finalize=_put_out)
        self._compiled: dict[tuple[str, str, tuple[bool, bool]], jinja2.Template] = {}

    def string(self, text: str, scope: Scope) -> Any:
        """A string of a playbook or inventory: native where it is one expression. May return Undefined."""
        if not is_template(text):
            return text
        return _kept_newlines(text, self._render(self._template(self._strings, text, "string"), scope))

    def expression(self, text: str, scope: Scope) -> Any:
        """The value of a bare expression, as in `when`. Raises if it is undefined."""
        return self._render(self._template(self._files, "{{ " + text.strip() + " }}", "expression"), scope)

    def file(self, text: str, name: str, scope: Scope, *, trim_blocks: bool = True, lstrip_blocks: bool = False) -> str:
        """The rendered text of a template file. `name`: its name in errors."""
        files: jinja2.Environment = self._files
        if lstrip_blocks or not trim_blocks:
            files = files.overlay(trim_blocks=trim_blocks, lstrip_blocks=lstrip_blocks)
        rendered = _kept_newlines(text, strict(self._render(self._template(files, text, name), scope)))
        return "" if rendered is None else str(rendered)

    def check_string(self, text: str) -> None:
        """Raise TemplateProblem if `text` is not a valid template."""
        if is_template(text):
            self._template(self._strings, text, "string")

    def check_expression(self, text: str) -> None:
        """Raise TemplateProblem if `text` is not a valid expression."""
        self._template(self._files, "{{ " + text.strip() + " }}", "expression")

    def check_file(self, text: str, name: str) -> None:
        """Raise TemplateProblem if `text` is not a valid template file."""
        self._template(self._files, text, name)

    def _template(self, environment: jinja2.Environment, text: str, name: str) -> jinja2.Template:
        syntax = (environment.trim_blocks, environment.lstrip_blocks)
        key = ("string" if environment is self._strings else name, text, syntax)
        if key not in self._compiled:
            try:
                self._compiled[key] = environment.from_string(text)
            except jinja2.TemplateSyntaxError as error:
                raise TemplateProblem(error.message or "syntax error", error.lineno) from None
            self._compiled[key].name = name
        return self._compiled[key]

    @staticmethod
    def _render(template: jinja2.Template, scope: Scope) -> Any:
        context = _Context(template.environment, scope, template.name, template.blocks)  # type: ignore[arg-type]
        return _concat(template.root_render_func(context))


def is_template(text: str) -> bool:
    """Whether the text contains Jinja syntax."""
    return "{{" in text or "{%" in text or "{#" in text


def error_line(error: BaseException, name: str) -> int:
    """The line of the template file `name` in which rendering failed; 0 if it failed elsewhere."""
    line = 0
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None and template.name == name:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _kept_newlines(template: str, rendered: Any) -> Any:
    """The rendered text with the trailing newlines of the template, which Jinja drops."""
    if not isinstance(rendered, str):
        return rendered
    lacking = _newlines_at_end(template) - _newlines_at_end(rendered)
    return rendered + "\n" * lacking if lacking > 0 else rendered


def _newlines_at_end(text: str) -> int:
    return len(text) - len(text.rstrip("\n"))
