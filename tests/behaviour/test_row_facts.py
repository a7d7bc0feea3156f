"""What slices are told by, of rows as tables have them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import Dataset

from hf_trainpipe import TextClassification
from hf_trainpipe.behaviour.row_facts import facts_of


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])  # large ones are those of polars
def test_columns_of_few_texts_cut_rows(kind: pa.DataType) -> None:
    rows = pa.table({"text": ["a b", "b"], "label": [0, 1], "channel": pa.array(["phone", "mail"], kind)})
    facts = facts_of(TextClassification("text", label="label"), Dataset(rows))
    assert facts.values["channel"].tolist() == ["phone", "mail"]
    assert facts.words["b"].tolist() == [0, 1]
