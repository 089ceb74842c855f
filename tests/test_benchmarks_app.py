"""The benchmark of the app: its made-up runs are sound, and a missed budget is told."""

import json

import numpy as np
import pytest

from benchmarks import app
from benchmarks.made_up import GROUP, Size, write_run
from core.histogram import log_weight_histogram
from core.runfile import reading


def test_a_made_up_run_holds_what_its_own_log_probabilities_say(tmp_path):
    size = Size(steps=3, rollouts=2 * GROUP, length=40)
    with reading(write_run(tmp_path / "run", size)) as connection:
        assert connection.execute("SELECT status, last_step FROM run").fetchall() == [("finished", 3)]
        assert connection.execute("SELECT count(*) FROM tokens").fetchall() == [(size.tokens,)]
        wrong = connection.execute(
            "SELECT count(*) FROM tokens t JOIN steps USING (step), cepo_credit(steps.lam, 0.5) c "
            "WHERE (c.step, c.group_id, c.rollout_id, c.position) = (t.step, t.group_id, t.rollout_id, t.position) AND "
            "(t.delta, t.weight, t.clipped, t.token_advantage) IS DISTINCT FROM "
            "(c.delta, c.weight, c.clipped, c.token_advantage)"
        )
        assert wrong.fetchall() == [(0,)]
        weights = connection.execute("SELECT ln(weight::DOUBLE) AS w FROM tokens WHERE step = 2").fetchnumpy()["w"]
        (stored,) = connection.execute("SELECT log_weight_histogram FROM steps WHERE step = 2").fetchall()[0]
        assert np.abs(np.array(stored) - log_weight_histogram(weights)).sum() <= 2, "edges of bins may round apart"
        counted = connection.execute("SELECT DISTINCT n FROM (SELECT sum(n_tokens) AS n FROM rollouts GROUP BY step)")
        assert counted.fetchall() == [(size.rollouts * size.length,)]


@pytest.mark.parametrize(("milliseconds", "status"), [(119.0, 0), (121.0, 1)])
def test_a_missed_budget_is_the_exit_status(monkeypatch, capsys, milliseconds, status):
    figures = [app.Figure("slider_to_paint_ms_2048", "ε to paint", milliseconds, "ms", 120.0)]
    monkeypatch.setattr(app, "measure", lambda size, console: (figures, {"cores": 2}))
    monkeypatch.setattr("sys.argv", ["app", "--json"])
    assert app.main() == status
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["slider_to_paint_ms_2048"] == milliseconds
