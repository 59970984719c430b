"""Session features, each declared once: a function from the events of sessions to one value per session.

Under `@feature` with its type and unit; its name is the feature's, its docstring the description:

    @feature("float64", "currency")
    def price_mean(e: EventFrame) -> Floats:
        \"\"\"Mean price of the events that have one.\"\"\"
        return e.mean_of(e.price)

`python -m udfs.features > docs/features.md` writes the page of them all, `python -m udfs.schemas` the schemas.
"""

# isort: off
# Records list the features in the order in which their modules are imported.
from udfs.features import activity, timing, prices, items, shopper
# isort: on

from udfs.core.arrays import Floats, Ints, Texts
from udfs.features.compute import compute_batch, compute_columns, compute_features
from udfs.features.registry import FEATURES, Feature, feature, load_modules, shared
from udfs.sessions.frame import EventFrame

__all__ = [
    "FEATURES",
    "EventFrame",
    "Feature",
    "Floats",
    "Ints",
    "Texts",
    "activity",
    "compute_batch",
    "compute_columns",
    "compute_features",
    "feature",
    "items",
    "load_modules",
    "prices",
    "shared",
    "shopper",
    "timing",
]
