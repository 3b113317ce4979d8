"""Loading the user's own functions."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.errors import ConfigurationError
from counterfoil.own_code import load_function

CODE = """
class Rule:
    def __call__(self, user):
        return True

def plain(user):
    return {"name": user["id"]}

async def later(user):
    return {}

rule = Rule()
number = 7
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module, and nothing of it left afterwards."""
    (tmp_path / "my_billing_rules.py").write_text(CODE)
    (tmp_path / "my_broken_rules.py").write_text("import no_such_package")
    (tmp_path / "json.py").write_text("raise AssertionError('what is installed goes first')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_billing_rules", "my_broken_rules"):
        sys.modules.pop(name, None)


def test_a_function_is_found_in_the_working_folder() -> None:
    assert load_function("COUNTERFOIL_MAPPING", "my_billing_rules:plain")({"id": "user_1"}) == {"name": "user_1"}
    assert load_function("COUNTERFOIL_ELIGIBLE", "my_billing_rules:rule")({}) is True


def test_a_file_in_the_working_folder_hides_nothing_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "json")
    assert load_function("COUNTERFOIL_MAPPING", "json:loads")("{}") == {}


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("no_such_module_here:f", "no_such_module_here cannot be imported (ModuleNotFoundError"),
        ("my_broken_rules:f", "my_broken_rules cannot be imported (ModuleNotFoundError"),
        ("my_billing_rules:nobody", "my_billing_rules has no function nobody"),
        ("my_billing_rules:number", "my_billing_rules has no function number"),
        ("my_billing_rules:later", "my_billing_rules:later is asynchronous"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_settings_name_and_what_to_do(named: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_function("COUNTERFOIL_MAPPING", named)
    assert str(error.value).startswith(f"COUNTERFOIL_MAPPING: {told}")
    assert ";" in str(error.value)
