import numpy as np
import pytest

from kit.errors import ParameterError
from kit.scraps import glue, plain_scalar, read_scraps


def scrap_output(name, data, encoder="json"):
    payload = {"name": name, "data": data, "encoder": encoder, "version": 1}
    return {"output_type": "display_data", "data": {f"application/scrapbook.scrap.{encoder}+json": payload}}


def notebook_with(*outputs):
    return {"cells": [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "outputs": list(outputs)}]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("text", "text"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array(2.0), 2.0),
        (np.array([4]), 4),
        (np.str_("a"), "a"),
        (float("nan"), "NaN"),
        (np.float64("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_scalars_become_plain_values(value, plain):
    result = plain_scalar(value)
    assert (result, type(result)) == (plain, type(plain))


@pytest.mark.parametrize("value", [None, [1], (1, 2), {"a": 1}, np.array([1, 2]), np.array([]), object(), 1j])
def test_what_is_no_scalar_is_refused(value):
    with pytest.raises(ParameterError, match="a metric is a number"):
        plain_scalar(value)


def test_last_scalar_scrap_of_a_name_counts():
    notebook = notebook_with(scrap_output("auc", 0.5), scrap_output("auc", 0.7), scrap_output("kind", "small", "text"))
    assert read_scraps(notebook) == {"auc": 0.7, "kind": "small"}


def test_scraps_that_are_no_scalars_are_no_metrics():
    notebook = notebook_with(
        scrap_output("list", [1, 2]),
        scrap_output("table", "UEFSMQ==", "pandas"),
        scrap_output("none", None),
        scrap_output("", 1),
        {"output_type": "display_data", "data": {"application/scrapbook.scrap.json+json": "broken"}},
        {"output_type": "stream", "name": "stdout", "text": "hello"},
    )
    assert read_scraps(notebook) == {}


def test_value_does_not_survive_a_later_scrap_of_another_kind():
    assert read_scraps(notebook_with(scrap_output("auc", 0.7), scrap_output("auc", [0.7]))) == {}


def test_display_under_the_name_of_a_value_keeps_the_value():
    picture = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {"scrapbook": {"name": "auc"}}}
    assert read_scraps(notebook_with(scrap_output("auc", 0.7), picture)) == {"auc": 0.7}


def test_nan_that_a_notebook_glued_itself_is_no_number():
    assert read_scraps(notebook_with(scrap_output("auc", float("nan")))) == {"auc": "NaN"}


def test_metric_needs_a_name():
    with pytest.raises(ParameterError, match="needs a name"):
        glue(" ", 1)


@pytest.fixture
def published(monkeypatch):
    """What scrapbook displays, in a shell that says it belongs to a kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    shell, data = InteractiveShell.instance(), []
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    monkeypatch.setattr(shell.display_pub, "publish", lambda **bundle: data.append(bundle["data"]))
    yield data
    InteractiveShell.clear_instance()


@pytest.mark.kernel
@pytest.mark.parametrize("value", [np.float32(0.25), 3, True, "3", "NaN", float("nan")])
def test_glued_value_reads_back_as_recorded(published, value):
    recorded = glue("m", value)
    assert read_scraps(notebook_with({"output_type": "display_data", "data": published[0]})) == {"m": recorded}
