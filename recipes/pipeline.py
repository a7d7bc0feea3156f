"""From the data to a package that was tried: the stages of the quickstart, without network (extras: quickstart, onnx).

    python -m hf_trainpipe pipeline show recipes/pipeline.py --svg pipeline.svg
    python -m hf_trainpipe pipeline run  recipes/pipeline.py --parallel 2
    python -m hf_trainpipe pipeline emit cron recipes/pipeline.py      # or actions, slurm, airflow, kfp, trainjob

Killed anywhere, the same command continues; what is done is not done again. docs/pipelines.md has every stage, with those that
push, deploy, watch and retrain.
"""

from hf_trainpipe.pipelines import Audit, Evaluate, Package, Pipeline, Train, Verb, Verify

RECIPE = "quickstart.py"


def pipeline() -> Pipeline:
    return Pipeline(
        "quickstart",
        stages=(
            Audit(RECIPE),
            Verb("simple", command=("baseline", RECIPE, "--output", "{self}/baselines"), json=True),
            Train(RECIPE, after=("audit",)),
            Package("train"),
            Evaluate("package", split="test"),
            Verify("package"),
        ),
    )
