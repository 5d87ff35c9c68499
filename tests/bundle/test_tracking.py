"""Test ``--tracking mlflow``, MONAI's own option, with a local store."""

import json

import pytest
from running import BUNDLES, NAMES, kept_state, leave_to_torture, run_here

from medpos.bundle.tracking import complete, parameters, remove_tracking

mlflow = pytest.importorskip("mlflow", reason="the extra 'tracking' is not installed")


def content(name):
    return json.loads((BUNDLES / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of the store, which MLflow takes seconds to set up."""
    return tmp_path_factory.mktemp("tracking")


def tracked(name, prepared, tmp_path, folder):
    """Return the runs in MLflow after a run of a bundle: the training, then the test."""
    store = f"sqlite:///{folder}/mlruns.db"
    run = run_here(
        name,
        dataset_dir=str(prepared[name[:4]]),
        bundle_root=str(tmp_path),
        runs_dir=str(tmp_path / "runs"),
        image_size=32,
        batch_size=5,
        max_epochs=1,
        tracking="mlflow",
        tracking_uri=store,
        experiment_name=name,
    )
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs(experiment.experiment_id, order_by=["attributes.start_time ASC"])
    return client, runs, json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("name", leave_to_torture(["jsrt_small", "acdc_small", "jsrt_mean_mask"], ["acdc_small"]))
def test_metrics_parameters_and_configuration_are_logged(name, prepared, tmp_path, folder):
    client, (training, test), summary = tracked(name, prepared, tmp_path, folder)
    assert training.info.status == test.info.status == "FINISHED"
    organs = summary["conditions"][0]["organs"]
    assert {"mean_dice", *(f"dice/{organ}" for organ in organs)} <= set(training.data.metrics)
    # A subject's two phases count singly in both.
    for organ, metrics in organs.items():
        assert test.data.metrics[f"dice/{organ}"] == pytest.approx(metrics["dice"]["mean"])
    # A mean mask has neither.
    assert ({"train_loss", "learning_rate"} <= set(training.data.metrics)) == ("mean_mask" not in name)
    assert training.data.params["max_epochs"] == "1"
    assert training.data.params["bundle_name"] == name
    assert training.data.params["image_size"] == "32"
    (artifact,) = client.list_artifacts(training.info.run_id)
    saved = json.loads((folder / "mlruns" / training.info.run_id / "artifacts" / artifact.path).read_text())
    assert saved["bundle_name"] == name
    assert saved["image_size"] == 32


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_accepts_the_handlers(name, prepared, tmp_path, folder):
    from monai.bundle import ConfigWorkflow

    with kept_state():
        workflow = ConfigWorkflow(
            str(BUNDLES / f"{name}.json"),
            logging_file=False,
            tracking="mlflow",
            bundle_root=str(tmp_path),
            dataset_dir=str(prepared[name[:4]]),
            runs_dir=str(tmp_path / "runs"),
            tracking_uri=f"sqlite:///{folder}/mlruns.db",
            image_size=32,
        )
        workflow.initialize()
        handlers = [
            workflow.parser.get_parsed_content(key) for key in ("train::handlers", "validate::handlers", "handlers")
        ]
    assert [[type(handler).__name__ for handler in part].count("MLFlowHandler") for part in handlers] == [1, 1, 1]
    assert handlers[0][-1].experiment_param["bundle_name"] == name


def test_parameters_are_plain_and_hold_no_path():
    found = parameters({**content("jsrt_small_pe"), "dataset_dir": "/somewhere", "runs_dir": "/elsewhere"})
    assert found["pe_alpha"] == "3.0"
    assert found["lr"] == "0.001"
    assert not [key for key, value in found.items() if value.startswith(("/", "$", "@"))]


def test_an_export_of_a_tracked_run_has_no_tracking():
    config = content("jsrt_small")
    config["handlers"].append({"_target_": "MLFlowHandler", "tracking_uri": "@tracking_uri"})
    assert remove_tracking({**config, "tracking_uri": "sqlite:////somewhere", "output_dir": "/here"}) == content(
        "jsrt_small"
    )


def test_a_run_without_tracking_is_unchanged():
    config = content("jsrt_small")
    complete(config)
    assert config == content("jsrt_small")
