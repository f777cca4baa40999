"""What the README and the guides tell a reader to type exists."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rooms import MAY_IMPORT

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKE_TARGETS = set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.M))


def commands(guide):
    """Yield the argument lists of the guide's ```sh blocks and of its `inline` commands."""
    text = guide.read_text()
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    lines = blocks.replace("\\\n", " ").splitlines()
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    inline = [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose)]
    lines += [code for code in inline if re.match(r"(make|docker|python|\.venv/bin/\S+) ", code)]
    for line in lines:
        for part in re.split(r"\s(?:&&|\|)\s", line):
            words = shlex.split(part, comments=True)
            if words:
                yield words


ALL = [(guide.name, words) for guide in GUIDES for words in commands(guide)]


COMPOSE_COMMANDS = set("build config cp down exec kill logs ps pull restart run start stats stop up version".split())


def compose_services():
    files = [ROOT / "docker-compose.yml", ROOT / "deploy/docker-compose.tls.yml"]
    text = "".join(file.read_text() for file in files)
    sections = re.findall(r"^services:\n((?:  .*\n|\n)+)", text, re.M)
    return set(re.findall(r"^  (\w+):$", "".join(sections), re.M))


@functools.cache
def usage(program):
    done = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def of(program):
    chosen = [pytest.param(words, id=f"{guide}: {' '.join(words)}") for guide, words in ALL if program(words)]
    assert chosen
    return chosen


def test_the_two_commands_of_the_readme_are_run_and_test():
    first_block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert re.findall(r"^make \w+", first_block, re.M) == ["make run", "make test"]


@pytest.mark.parametrize("words", of(lambda words: words[0] == "make"))
def test_each_make_command_names_targets_and_settings_of_the_makefile(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, is_setting, _ = word.partition("=")
        if is_setting:
            assert re.search(rf"^{name} \?=", makefile, re.M), f"the Makefile has no setting {name}"
        else:
            assert word in MAKE_TARGETS, f"the Makefile has no target {word}"


@pytest.mark.parametrize("words", of(lambda words: re.search(r"python3?$", words[0])))
def test_each_python_command_names_a_program_that_knows_its_flags(words):
    program = ROOT / words[1]
    assert program.is_file(), f"{words[1]} does not exist"
    for flag in [word.partition("=")[0] for word in words[2:] if word.startswith("--")]:
        assert re.search(rf"{flag}\b", usage(program)), f"{words[1]} knows no {flag}"


@pytest.mark.parametrize("words", of(lambda words: words[:2] == ["docker", "compose"]))
def test_each_compose_command_names_files_and_services_that_exist(words):
    services = compose_services()
    for before, word in zip(words, words[1:], strict=False):
        if before == "-f":
            assert (ROOT / word).is_file(), f"{word} does not exist"
        if before == "--scale":
            assert word.partition("=")[0] in services
    rest = [word for word in words[2:] if not word.startswith("-") and "=" not in word and not word.endswith(".yml")]
    assert rest[0] in COMPOSE_COMMANDS, f"docker compose has no command {rest[0]}"
    names = rest[1:2] if rest[0] in {"exec", "run"} else rest[1:]
    assert set(names) <= services, f"no such service: {set(names) - services}"


@pytest.mark.parametrize("words", of(lambda words: words[0] == "cp"))
def test_each_copied_file_exists(words):
    assert (ROOT / words[1]).is_file(), f"{words[1]} does not exist"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_each_linked_file_and_picture_exists(guide):
    text = guide.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) + re.findall(r'\bsrc(?:set)?="([^"]+)"', text):
        assert (guide.parent / target).exists(), f"{guide.name} links to {target}, which does not exist"


def test_the_rooms_of_the_readme_exist_and_none_is_left_out():
    table = re.search(r"^\| room \|.*\n\|[-|]+\n((?:\|.*\n)+)", (ROOT / "README.md").read_text(), re.M)[1]
    named = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert all((ROOT / name).exists() for name in named), named
    rooms = {name for room in MAY_IMPORT for name in (f"{room}.py", f"{room}/") if (ROOT / name).exists()}
    assert rooms <= named


def test_the_tests_that_a_guide_names_are_there():
    named = {found for guide in GUIDES for found in re.findall(r"(test_\w+\.py) -k (\w+)", guide.read_text())}
    assert len(named) >= 8
    for file, part in named:
        assert re.search(rf"def test_\w*{part}", (ROOT / "tests" / file).read_text()), f"{file} -k {part} runs nothing"
