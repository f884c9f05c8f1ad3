"""Documents that YAML can't read, and what their author is told."""

import pytest

from announcer.core.dialects.mistakes import explain

PASTED = """\
apiVersion: v1
kind: Service
metadata:
  name: test-nginx
  namespace: test
spec:
  - name: app
    port: 80
  selector:
    app: test-nginx
"""


def test_list_right_under_spec_gets_ports_as_a_hint() -> None:
    problem = explain(PASTED, 8, "expected <block end>, but found '?'", "web.yaml:9")
    assert str(problem.ref) == "Service test/test-nginx"
    assert (problem.field, problem.value) == ("spec", "selector:")
    assert "put `ports:` above it" in problem.remedy


@pytest.mark.parametrize(
    ("text", "line", "field", "remedy"),
    [
        ("kind: Node\nspec:\n\tport: 1\n", 2, "", "indent with blanks, not with tabs"),
        ("kind: Node\nspec:\n  - a\n  b: 1\n", 3, "spec", "a key of its own"),
        ("a: [1, 2\n", 5, "", ""),
        ("", 0, "", ""),
    ],
)
def test_other_mistakes_name_field_and_remedy(text: str, line: int, field: str, remedy: str) -> None:
    problem = explain(text, line, "bad", "f.yaml:1")
    assert problem.field == field
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        'kind: BGPPeer\nspec:\n  - a\n  password: "hush\n',
        "kind: BGPPeer\nspec:\n  - a\n  PassWd: !hush\n",
        "kind: BGPPeer\nspec:\n  passwordSecret:\n    key: !hush\n",
        "kind: BGPPeer\nspec:\n  - password: hush\n  vrf: red\n",
        "kind: Secret\nstringData:\n  - hush\n  key: hush\n",
        "items:\n- kind: 'Secret'\n  stringData:\n    key: !hush\n",
    ],
)
def test_line_that_may_have_a_password_in_it_is_not_shown(text: str) -> None:
    problem = explain(text, 3, "no such tag" if "vrf" in text else "no such tag '!hush'", "f.yaml:1")
    assert problem.ref.source == "f.yaml:1"
    assert "hush" not in f"{problem} {problem.remedy}"
