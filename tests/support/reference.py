"""Reference data beside the project, where MULTIFACET_REFERENCE_DATA names its folder; tests that need it skip without it."""

import os
from pathlib import Path

TGI_DESCRIPTION = Path(os.environ.get("MULTIFACET_REFERENCE_DATA", "reference-data")) / "tgi" / "openapi.json"
"""TGI's own description of its API (huggingface/text-generation-inference, docs/openapi.json)."""

PANDALM_TEST_SET = (
    Path(os.environ.get("MULTIFACET_REFERENCE_DATA", "reference-data")) / "agreement" / "pandalm_testset_v1.json"
)
"""999 pairs of answers with three people's labels each (WeOpenML/PandaLM, data/testset-v1.json)."""
