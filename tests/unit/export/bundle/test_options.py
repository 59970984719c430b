from pathlib import Path

import pytest

from export.bundle.options import ExportOptions
from udfs.core.errors import ShopstreamError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variants": ("fp32", "fp8")}, "unknown variant fp8"),
        ({"variants": ("int8",)}, "has to name fp32"),
        ({"learn": True}, "name a file or the lake with --sessions"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], says: str):
    with pytest.raises(ShopstreamError, match=says):
        ExportOptions(Path("catalog.csv"), Path("out"), **options).check()  # type: ignore[arg-type]
