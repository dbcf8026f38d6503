"""Jinja2 as Ansible uses it: native values, strict about undefined ones; each text is compiled only once.

The value of a template (measured against ansible-core 2.19): of a single expression its native value; of several parts
their text, without those that are None; of an empty template None. Trailing newlines of the template are kept.

A template is data: it runs in Jinja's sandbox, as in Ansible, and its work and memory are limited (render/limits.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinMethodType, CodeType, TracebackType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.lexer import TokenStream
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from clusteradm.playbook.render import filters, limits
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

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        node.iter = nodes.Call(nodes.EnvironmentAttribute("counted"), [node.iter], [], None, None)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


def _concat(nodes: Iterable[Any]) -> Any:
    parts = [_plain(node) for node in nodes if node is not None]
    if len(parts) > 1:
        return "".join(_output(strict(part)) for part in parts if not is_no_else(part))
    return parts[0] if parts else None


def _output(value: Any) -> str:
    limits.charge(limits.measure(value))
    return str(value)


def _plain(value: Any) -> Any:
    """The value with generators and views, which filters return, made lists."""
    if isinstance(value, str | dict | list | tuple | jinja2.Undefined) or not isinstance(value, Iterable | Iterator):
        return value
    return value if isinstance(value, Mapping) else list(limits.counted(value))


def _put_out(value: Any) -> Any:
    return "" if is_no_else(value) else strict(value)


class _Formatter(SandboxedFormatter):
    """str.format of the sandbox, each part charged."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        limits.widths(re.findall(r"\d+", format_spec))
        limits.charge(limits.measure(value))
        return super().format_field(value, format_spec)


# Attributes with underscores that Ansible allows: there are no filters for these operations.
_OF_NUMBERS = {"__and__", "__lshift__", "__or__", "__rshift__", "__xor__"}


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox: a template reaches values, never Python. Names that begin with _ are undefined."""

    code_generator_class = _CodeGenerator
    context_class = _Context
    concat = staticmethod(_concat)
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *, escape_backslashes: bool, finalize: Callable[[Any], Any] | None = None) -> None:
        super().__init__(trim_blocks=True, undefined=Undefined, finalize=finalize)
        self.optimized = False  # constant folding would turn native constants into text
        self._escape_backslashes = escape_backslashes
        known = {**self.filters, **filters.FILTERS}
        self.filters.update({name: limits.of_filter(name, function) for name, function in known.items()})
        self.tests.update(filters.TESTS)
        self.binop_table.update(
            {"+": limits.plus, "*": limits.times, "**": limits.power, "%": limits.percent},
        )

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr in _OF_NUMBERS and isinstance(obj, int):
            return attr != "__lshift__"
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Undefined, which raises SecurityError when it is used; but the element of a mapping that has that key."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().unsafe_undefined(obj, attribute)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, BuiltinMethodType) or super().wrap_str_format(value) is None:
            return None
        text = str(value.__self__)

        def formatted(*args: Any, **options: Any) -> str:
            if value.__name__ == "format_map":
                (options,), args = args, ()
            return _Formatter(self).vformat(text, args, options)

        return formatted

    def call(__self, __context: Context, __obj: Any, *args: Any, **options: Any) -> Any:
        if __obj == __self.counted:
            return limits.counted(*args)
        return super().call(__context, __obj, *limits.call(__obj, args, options), **options)

    @staticmethod
    def counted(values: Iterable[Any]) -> Iterator[Any]:
        """The elements that a loop goes through."""
        return limits.counted(values)

    @staticmethod
    def concatenated(parts: tuple[Any, ...]) -> str:
        """The operator ~."""
        return "".join([_output(part) for part in parts])

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


# The code of templates, for all runs of a process: in every environment of a kind a text has the same.
_CODE: dict[tuple[bool, bool, bool, bool, str], CodeType] = {}
_MOST_CODE = 4096


def _compiled(environment: jinja2.Environment, text: str, *, strings: bool) -> jinja2.Template:
    """The template of a text, whose code is compiled only once. Raises what Jinja raises."""
    key = (strings, environment.finalize is None, environment.trim_blocks, environment.lstrip_blocks, text)
    code = _CODE.get(key)
    if code is None:
        if len(_CODE) >= _MOST_CODE:
            _CODE.clear()
        code = _CODE[key] = environment.compile(text)
    return environment.template_class.from_code(environment, code, environment.make_globals(None), None)


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
                self._compiled[key] = _compiled(environment, text, strings=environment is self._strings)
            except jinja2.TemplateSyntaxError as error:
                raise TemplateProblem(error.message or "syntax error", error.lineno) from None
            except (RecursionError, MemoryError, SyntaxError):
                raise TemplateProblem("nested too deeply", 1) from None
            except ValueError as error:  # a number of thousands of digits
                raise TemplateProblem(str(error), 1) from None
            self._compiled[key].name = name
        return self._compiled[key]

    @staticmethod
    def _render(template: jinja2.Template, scope: Scope) -> Any:
        context = _Context(template.environment, scope, template.name, template.blocks)  # type: ignore[arg-type]
        return limits.render(lambda: _concat(template.root_render_func(context)))


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
