"""What MLflow is told of a run."""

from adcore.results.frame import frame
from adcore.results.runs import run_results
from tasks.tracking import run


def test_training_takes_only_the_names_that_the_metrics_leave(enhanced):
    (result,) = run_results(enhanced)
    assert list(run._training(result, 3)) == ["padim.loss", "sbm.loss", "pfam.loss"]
    assert len(run._training(result, 40)) == 4 and not run._training(result, 0)


def test_names_stay_few_and_keep_the_headline(cells):
    row = cells[0].row
    wide = {"i_auroc": 0.5, "i_auroc_untwinned": 0.4} | {f"i_auroc_x{i}": 0.5 for i in range(60)}
    kept = run._metrics(frame([{**{k: v for k, v in row.items() if k != "aupro"}, **wide}]))
    assert len(kept) == run.MOST_METRICS and {"i_auroc", "i_auroc_untwinned", "score_ms"} <= kept.keys()
