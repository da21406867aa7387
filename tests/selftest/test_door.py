"""`python -m tests.tools`: one door to all commands."""

import importlib

import pytest

from tests.tools.__main__ import VERBS, main


def test_without_arguments_it_lists_the_commands(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([])
    listed = capsys.readouterr().out
    assert all(f"\n  {verb} " in listed and told in listed for verb, (_, told) in VERBS.items())


def test_an_unknown_command_is_bad_input(capsys):
    with pytest.raises(SystemExit, match=r"^4$"):
        main(["no-such-verb"])
    assert "no-such-verb" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_command_has_a_help(verb, capsys):
    if verb == "site":
        pytest.importorskip("markdown_it", reason="the environment of the pages has it")
    module = importlib.import_module(VERBS[verb][0])
    with pytest.raises(SystemExit, match=r"^0$"):
        module.main(["--help"])
    assert capsys.readouterr().out
