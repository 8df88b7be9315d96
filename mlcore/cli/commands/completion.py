"""``mlcore completion SHELL``: the shell's completion script.

The script asks ``mlcore completion --for WORD...``, which completes installed losses, models
and data sets and the options of those chosen. It does not import torch.
"""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterable, Sequence
from importlib import import_module

from mlcore.cli import console, main
from mlcore.cli.parser import Parser
from mlcore.errors import MlcoreError
from mlcore.options import COMPONENTS, Section, run_sections, split_argv
from mlcore.registry.discovery import Registry

_BASH = """\
_mlcore() {
    local IFS=$'\\n'
    COMPREPLY=($(mlcore completion --for "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _mlcore mlcore
"""
_ZSH = """\
#compdef mlcore
_mlcore() {
    local -a found
    found=("${(@f)$(mlcore completion --for "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -- $found; else _files; fi
}
compdef _mlcore mlcore
"""
_FISH = """\
function __mlcore_complete
    set -l words (commandline -opc)
    set -a words (commandline -ct | string collect --allow-empty)
    mlcore completion --for $words[2..-1] 2>/dev/null
end
complete -c mlcore -a '(__mlcore_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "completion",
        "Print the completion script of a shell.",
        epilog="bash: add 'source <(mlcore completion bash)' to ~/.bashrc; zsh: the same with "
        "zsh in ~/.zshrc; fish: 'mlcore completion fish | source' in config.fish",
    )
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell")
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    if argv[:1] == ["--for"]:
        found = candidates(argv[1:] or [""])
        if found:
            console.write("\n".join(found))
        return 0
    options = make_parser().parse_command(argv)
    script = SCRIPTS[options.shell]
    if options.json:
        console.write_json({"shell": options.shell, "script": script})
    else:
        console.write(script)
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """Return the completions of the last word of a command line (without "mlcore").

    ``--loss=prop`` is one word in zsh and fish; bash makes it three and replaces the last.
    """
    *before, word = words
    flag = ""
    if before and "=" in (word, before[-1]):
        word = "" if word == "=" else word
        before = [one for one in before if one != "="]
    elif word.startswith("--") and "=" in word:
        flag, _, word = word.partition("=")
        before.append(flag)
        flag += "="
    try:
        found = _candidates(before, word)
    except MlcoreError:
        return []
    return sorted({f"{flag}{one}" for one in found if one.startswith(word)})


def _candidates(before: Sequence[str], word: str) -> Iterable[str]:
    if not before:
        return [*main.COMMANDS, "--help", "--version", "--traceback"]
    if before[0] not in main.COMMANDS:
        return []
    parser: Parser = import_module(main.module_of(before[0])).make_parser()
    by_flag = {flag: action for action in parser.actions() for flag in action.option_strings}
    last = before[-1]
    if last in by_flag and by_flag[last].nargs != 0:
        return _words(by_flag[last], parser)
    if (
        parser.takes_run_options
        and last.startswith("--")
        and "=" not in last
        and last not in by_flag
    ):
        return _values(last, before[1:], parser)
    if word.startswith("-"):
        of_run = _run_flags(before[1:], parser) if parser.takes_run_options else []
        return [*by_flag, *of_run]
    return _argument_words(before[1:], parser)


def _argument_words(before: Sequence[str], parser: Parser) -> Iterable[str]:
    """Return the words that the next argument can be."""
    arguments = [action for action in parser.actions() if not action.option_strings]
    given = _num_arguments(before, parser)
    if not arguments or (given >= len(arguments) and arguments[-1].nargs not in ("*", "+")):
        return []
    return _words(arguments[min(given, len(arguments) - 1)], parser)


def _words(action: Action, parser: Parser) -> list[str]:
    return [*map(str, action.choices or ()), *parser.words.get(action.dest, tuple)()]


def _num_arguments(words: Sequence[str], parser: Parser) -> int:
    """Return how many words are arguments: neither flags nor their values."""
    own, _ = split_argv(words, parser.flags())
    takes_value = {
        flag
        for action in parser.actions()
        for flag in action.option_strings
        if action.nargs != 0
    }
    pairs = zip(["", *own], own, strict=False)
    return sum(not word.startswith("-") and last not in takes_value for last, word in pairs)


def _values(flag: str, before: Sequence[str], parser: Parser) -> Sequence[str]:
    """Return the values of an option of a run, if they are words."""
    key = flag.removeprefix("--")
    if key in COMPONENTS:
        names = Registry.discover().factories(COMPONENTS[key])
        return [name for _, f in names for name in (f.name, *f.aliases)]
    for section in _sections(before, parser):
        for option in section.options.values():
            if section.flag(option.name) == flag:
                return option.choices
    return []


def _run_flags(before: Sequence[str], parser: Parser) -> list[str]:
    flags = [s.flag(option) for s in _sections(before, parser) for option in s.options]
    return [*flags, "--config", *(f"--{name}" for name in COMPONENTS)]


def _sections(before: Sequence[str], parser: Parser) -> list[Section]:
    _, options = split_argv(before, parser.flags())
    return run_sections([o for o in options if o.chooses and o.value], Registry.discover())
