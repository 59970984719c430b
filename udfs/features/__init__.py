'''Session features: a feature is one function from the events of sessions to one value per session.

Usage:

    @feature("float64", "currency")          # type and unit; the function's name is the feature's
    def price_mean(frame: EventFrame) -> Floats:
        """Mean price of the events that have one."""  # the description
        return frame.mean_of(frame.price)

    load_modules(["our_features"])           # the setting features.modules
    compute_features(sessions, catalog)      # a dict of plain values per session
    compute_batch(sessions, catalog)         # Arrow columns

`python -m udfs.features > docs/features.md` writes the page of all features, `python -m udfs.schemas` the JSON Schemas.
'''

import importlib
import pkgutil

from udfs.core.arrays import Floats, Ints, Texts
from udfs.features.compute import compute_batch, compute_columns, compute_features
from udfs.features.registry import Feature, feature, load_modules, shared
from udfs.sessions.frame import EventFrame

__all__ = [
    "EventFrame",
    "Feature",
    "Floats",
    "Ints",
    "Texts",
    "compute_batch",
    "compute_columns",
    "compute_features",
    "feature",
    "load_modules",
    "shared",
]

# Records list features in this order, then those of any other module in this folder, which need not be named here.
_ORDER = ("activity", "timing", "prices", "items", "shopper")

for _name in dict.fromkeys((*_ORDER, *sorted(module.name for module in pkgutil.iter_modules(__path__)))):
    if not _name.startswith("_"):
        importlib.import_module(f"{__name__}.{_name}")
