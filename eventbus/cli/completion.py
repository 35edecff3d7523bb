"""Shell completion: scripts for bash, zsh and fish, made from the commands. Pure.

A script holds all names, so that completing starts no process of ours.
"""

from collections.abc import Callable, Iterator

from eventbus.cli.arguments import flags_of
from eventbus.cli.spec import COMMANDS, HELP, SWITCH, VERSION, Argument, Command, Flag

_FILES, _DIRECTORIES = "FILE", "DIRECTORY"  # what flags take, and what arguments are called


def script(shell: str) -> str:
    """Return the script for this shell: bash, zsh or fish."""
    return _SCRIPTS[shell]()


def _bash() -> str:
    names = " ".join(command.name for command in COMMANDS)
    cases = "\n".join(_bash_case(command) for command in COMMANDS)
    return f"""\
# bash completion of eventbus. For this shell:  eval "$(eventbus completion bash)"
# For all:  eventbus completion bash > ~/.local/share/bash-completion/completions/eventbus

_eventbus() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} flags= words= files=
    # Bash splits --flag=value at the sign, into three words.
    if [[ $current == = ]]; then current=; elif [[ $before == = ]]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{names} {HELP.name} {VERSION.name}" -- "$current"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    if [[ $current == -* ]]; then words=$flags files=; fi
    COMPREPLY=($(compgen $files -W "$words" -- "$current"))
}}
complete -F _eventbus eventbus
"""


def _bash_case(command: Command) -> str:
    flags = _flags(command)
    lines = [f"        {command.name})", f"            flags='{' '.join(flag.name for flag in flags)}'"]
    choices = [f"{choice}" for argument in command.arguments for choice in argument.choices]
    if choices:
        lines.append(f"            words='{' '.join(choices)}'")
    if any(argument.name == _FILES for argument in command.arguments):
        lines.append("            files=-f")
    values = [_bash_value(flag.name, f"-W '{' '.join(flag.choices)}'") for flag in flags if flag.choices]
    for kind, option in ((_FILES, "-f"), (_DIRECTORIES, "-d")):
        if named := [flag.name for flag in flags if flag.takes == kind]:
            values.append(_bash_value("|".join(named), option))
    if others := [flag.name for flag in flags if flag.kind != SWITCH and not flag.choices and not _is_path(flag)]:
        values.append(f"                {'|'.join(others)}) return ;;")
    if values:
        lines += ["            case $before in", *values, "            esac"]
    return "\n".join([*lines, "            ;;"])


def _bash_value(names: str, source: str) -> str:
    """A case that completes the value of these flags."""
    return f'                {names}) COMPREPLY=($(compgen {source} -- "$current")); return ;;'


def _zsh() -> str:
    names = "\n".join(f"        {_quoted(f'{command.name}:{command.summary}')}" for command in COMMANDS)
    cases = "\n".join(_zsh_case(command) for command in COMMANDS)
    return f"""\
#compdef eventbus
# zsh completion of eventbus. For this shell:  source <(eventbus completion zsh)
# For all:  eventbus completion zsh > _eventbus, in a folder of $fpath

_eventbus() {{
    local -a commands
    commands=(
{names}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
if [[ $funcstack[1] == _eventbus ]]; then _eventbus "$@"; else compdef _eventbus eventbus; fi
"""


def _zsh_case(command: Command) -> str:
    specs = [*map(_zsh_flag, _flags(command)), *map(_zsh_argument, command.arguments)]
    lines = " \\\n".join(f"                {spec}" for spec in specs)
    return f"        {command.name})\n            _arguments -S \\\n{lines}\n            ;;"


def _zsh_flag(flag: Flag) -> str:
    meaning = flag.meaning.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    star = "*" if flag.repeated else ""
    if flag.kind == SWITCH:
        return _quoted(f"{star}{flag.name}[{meaning}]")
    return _quoted(f"{star}{flag.name}=[{meaning}]:{flag.takes.lower() or 'value'}:{_zsh_values(flag)}")


def _zsh_argument(argument: Argument) -> str:
    star = "*" if argument.many else ""
    values = f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.name == _FILES else " "
    return _quoted(f"{star}:{argument.name.lower()}:{values}")


def _zsh_values(flag: Flag) -> str:
    if flag.choices:
        return f"({' '.join(flag.choices)})"
    return {_FILES: "_files", _DIRECTORIES: "_files -/"}.get(flag.takes, " ")


def _fish() -> str:
    lines = [
        "# fish completion of eventbus. For this shell:  eventbus completion fish | source",
        "# For all:  eventbus completion fish > ~/.config/fish/completions/eventbus.fish",
        "",
        "complete -c eventbus -f",
        f"complete -c eventbus -n __fish_use_subcommand -l {HELP.name[2:]} -d {_fish_quoted(HELP.meaning)}",
        f"complete -c eventbus -n __fish_use_subcommand -l {VERSION.name[2:]} -d {_fish_quoted(VERSION.meaning)}",
    ]
    for command in COMMANDS:
        lines += _fish_lines(command)
    return "\n".join(lines) + "\n"


def _fish_lines(command: Command) -> Iterator[str]:
    yield f"complete -c eventbus -n __fish_use_subcommand -a {command.name} -d {_fish_quoted(command.summary)}"
    start = f"complete -c eventbus -n '__fish_seen_subcommand_from {command.name}'"
    for argument in command.arguments:
        if argument.choices:
            chosen = f"not __fish_seen_subcommand_from {' '.join(argument.choices)}"
            condition = f"__fish_seen_subcommand_from {command.name}; and {chosen}"
            yield f"complete -c eventbus -n '{condition}' -a '{' '.join(argument.choices)}'"
        elif argument.name == _FILES:
            yield f"{start} -F"
    for flag in _flags(command):
        line = f"{start} -l {flag.name[2:]} -d {_fish_quoted(flag.meaning)}"
        if flag.choices:
            line += f" -x -a '{' '.join(flag.choices)}'"
        elif flag.takes == _DIRECTORIES:
            line += " -x -a '(__fish_complete_directories)'"
        elif flag.takes == _FILES:
            line += " -r -F"
        elif flag.kind != SWITCH:
            line += " -x"
        yield line


def _flags(command: Command) -> list[Flag]:
    return list(flags_of(command).values())


def _is_path(flag: Flag) -> bool:
    return flag.takes in (_FILES, _DIRECTORIES)


def _quoted(text: str) -> str:
    """A text as one word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: dict[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
