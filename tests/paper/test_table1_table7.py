"""Table 1 and Table 7 follow from the classes; and what Theorem 1 asks of a setting is asked by its type."""

import pytest
from pydantic import TypeAdapter, ValidationError

from core.methods import CEPO, METHODS, DistributionMatching, Method, TeacherSource, TokenCredit, table1, table7

CHECKED = TypeAdapter(Method)


def test_table_1_is_the_papers():
    printed = {  # Priv., leak-free, contr., no aux.; None where the paper prints a dash
        "GRPO": (False, None, False, True),
        "OPSD": (True, False, False, True),
        "SDPO": (True, False, False, True),
        "RLSD": (True, True, False, True),
        "CEPO": (True, True, True, True),
    }
    computed = {row.method: (row.privileged, row.leak_free, row.contrastive, row.no_auxiliary) for row in table1()}
    assert computed == printed


def test_table_7_is_the_papers():
    table = table7()
    assert table["learning_rate"] == {"grpo": 1e-6, "opsd": 1e-6, "sdpo": 1e-6, "rlsd": 1e-6, "cepo": 5e-6}
    assert table["measure"] == {"opsd": "forward_kl", "sdpo": "jensen_shannon"}
    assert table["lambda_0"] == {"rlsd": 0.5, "cepo": 0.5}
    assert table["warmup_steps"] == {"rlsd": 25, "cepo": 25}
    assert table["epsilon_w"] == {"rlsd": 0.5, "cepo": 0.5}
    assert table["hint_wrong"].keys() == {"cepo"}
    sources = {name: source.kind for name, source in table["teacher"].items()}
    assert sources == {"opsd": "reference", "sdpo": "ema", "rlsd": "actor", "cepo": "actor"}
    assert table["teacher"]["sdpo"].decay == 0.999
    assert (table["top_k"]["sdpo"], table["support"]["sdpo"], table["alpha"]["sdpo"]) == (100, "student", 0.5)


def test_every_method_is_of_one_kind_and_goes_by_its_name():
    for name, method in METHODS.items():
        assert issubclass(method, TokenCredit) != issubclass(method, DistributionMatching)
        assert method().name == name
        assert CHECKED.validate_python({"name": name}) == method()


def test_a_method_written_out_and_read_back_is_the_same_method():
    method = CEPO(epsilon_w=0.25, teacher=TeacherSource("periodic", every=5))
    assert CHECKED.validate_json(CHECKED.dump_json(method)) == method


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"name": "cepo", "epsilon_w": 1.0}, "epsilon_w"),
        ({"name": "cepo", "epsilon_w": 0.0}, "epsilon_w"),
        ({"name": "rlsd", "lambda_0": 1.01}, "lambda_0"),
        ({"name": "rlsd", "lambda_0": float("nan")}, "lambda_0"),
        ({"name": "rlsd", "warmup_steps": 0}, "warmup_steps"),
        ({"name": "grpo", "learning_rate": 0.0}, "learning_rate"),
        ({"name": "grpo", "learning_rate": float("inf")}, "learning_rate"),
        ({"name": "grpo", "epsilon_w": 0.5}, "epsilon_w"),
        ({"name": "sdpo", "alpha": 1.0}, "alpha"),
        ({"name": "sdpo", "top_k": 0}, "top_k"),
        ({"name": "opsd", "measure": "kl"}, "measure"),
        ({"name": "opsd", "teacher": {"kind": "frozen"}}, "kind"),
        ({"name": "opsd", "teacher": {"kind": "ema", "rate": 0.1}}, "rate"),
        ({"name": "ppo"}, "'grpo', 'opsd', 'sdpo', 'rlsd', 'cepo'"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, where):
    with pytest.raises(ValidationError, match=where):
        CHECKED.validate_python(settings)
