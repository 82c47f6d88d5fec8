"""Our own objects as plain trees with arrays for leaves, and back: what a checkpoint holds.

Unlike pickle, it makes nothing but the classes named in `KNOWN`, whoever wrote the file. Numbers come back as they
were, bit for bit: floats in JSON by their shortest exact form, large arrays as they are, aside.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from livestack.base.frame import FrameInfo, FrameKind
from livestack.calibration.cosmetic import DefectLearner
from livestack.calibration.defects import DefectMap
from livestack.detection import Sky, StarCatalog
from livestack.engine.ledger import Member
from livestack.engine.reference import Patch, Reference
from livestack.following.finder import Sources
from livestack.following.path import Path as ObjectPath
from livestack.following.two_skies import Model
from livestack.quality import FrameMeasures
from livestack.registration import StarReference
from livestack.registration.distortion import Distortion
from livestack.registration.features import FeatureReference
from livestack.registration.features.disc import Disc
from livestack.registration.features.keypoints import Keypoints
from livestack.registration.features.prepare import Prepared as Picture
from livestack.stacking.canvas import Canvas
from livestack.stacking.drizzle import Drop
from livestack.stacking.mask_store import MaskStore, StoredSamples
from livestack.stacking.noise_model import Blot, NoiseModel
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.normalise import ReferenceLight
from livestack.stacking.rejected_samples import RejectedSamples

KNOWN: dict[str, type] = {
    each.__name__: each
    for each in (
        Blot, Canvas, DefectLearner, DefectMap, Disc, Distortion, Drop, FeatureReference,
        FrameInfo, FrameMeasures, Keypoints,
        Member, Model, NoiseModel, Normalisation, ObjectPath, Patch, Picture, Reference, ReferenceLight,
        RejectedSamples, Sky, Sources, StarCatalog, StarReference, StoredSamples,
    )
}  # fmt: skip
"""By the name that a checkpoint says."""
NAMES = {made: name for name, made in KNOWN.items()}
DERIVED: dict[type, tuple[str, ...]] = {StarReference: ("stars", "width", "height")}
"""Classes whose other attributes follow from these, the arguments of their constructor."""
INLINE = 64
"""Float arrays of so many numbers, and so many bytes, stand in the text."""


def to_tree(value: Any, arrays: list[np.ndarray]) -> Any:
    """`value` as JSON can hold it; larger arrays are appended to `arrays`, not copied.

    Raises
    ------
    TypeError : something in it is none of the known classes.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, FrameKind)):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, np.ndarray):
        if value.dtype == np.float64 and value.size <= INLINE:
            return {"$": "floats", "shape": value.shape, "of": value.ravel().tolist()}
        arrays.append(value)
        return {"$": "array", "of": len(arrays) - 1}
    if isinstance(value, np.generic):
        arrays.append(np.asarray(value))
        return {"$": "scalar", "of": len(arrays) - 1}
    if isinstance(value, list):
        return [to_tree(each, arrays) for each in value]
    if isinstance(value, set | frozenset):
        return {"$": "set", "of": [to_tree(each, arrays) for each in sorted(value)]}
    if isinstance(value, tuple):
        return {"$": "tuple", "of": [to_tree(each, arrays) for each in value]}
    if isinstance(value, dict):
        return {"$": "dict", "of": [[to_tree(k, arrays), to_tree(v, arrays)] for k, v in value.items()]}
    if isinstance(value, bytes) and len(value) <= INLINE:
        return {"$": "hex", "of": value.hex()}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"$": "bytes", "of": len(arrays) - 1}
    if isinstance(value, Path):
        return {"$": "path", "of": str(value)}
    if isinstance(value, datetime):
        return {"$": "time", "of": value.isoformat()}
    if isinstance(value, FrameKind):
        return {"$": "kind", "of": value.value}
    name = NAMES.get(type(value))
    if name is None:
        raise TypeError(f"{type(value).__name__}: cannot be kept in a checkpoint; name it in KNOWN.")
    return {"$": name, "of": {key: to_tree(each, arrays) for key, each in _attributes(value).items()}}


def from_tree(tree: Any, arrays: Sequence[np.ndarray], store: MaskStore | None) -> Any:
    """What `to_tree` was given; stored samples belong to `store` from now on.

    Raises
    ------
    ValueError : the tree was not made by this version's `to_tree`.
    """
    if isinstance(tree, list):
        return [from_tree(each, arrays, store) for each in tree]
    if not isinstance(tree, dict):
        return tree
    kind, content = tree["$"], tree["of"]
    if kind == "floats":
        return np.array(content, dtype=float).reshape(tree["shape"])
    if kind == "array":
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    if kind == "hex":
        return bytes.fromhex(content)
    if kind == "bytes":
        return arrays[content].tobytes()
    if kind == "tuple":
        return tuple(from_tree(each, arrays, store) for each in content)
    if kind == "set":
        return {from_tree(each, arrays, store) for each in content}
    if kind == "dict":
        return {from_tree(k, arrays, store): from_tree(v, arrays, store) for k, v in content}
    if kind == "path":
        return Path(content)
    if kind == "time":
        return datetime.fromisoformat(content)
    if kind == "kind":
        return FrameKind(content)
    made = KNOWN.get(kind)
    if made is None:
        raise ValueError(f"{kind!r}: unknown to this version.")
    attributes = {key: from_tree(each, arrays, store) for key, each in content.items()}
    return _make(made, attributes, store)


def to_text(tree: Any) -> bytes:
    """A tree as bytes; NaN and infinities as JavaScript writes them."""
    return json.dumps(tree, separators=(",", ":")).encode("ascii")


def _attributes(value: Any) -> dict[str, Any]:
    for of, names in DERIVED.items():
        if isinstance(value, of):
            return {name: getattr(value, name) for name in names}
    if dataclasses.is_dataclass(value):
        names = tuple(field.name for field in dataclasses.fields(value) if field.init)
        return {name: getattr(value, name) for name in names if not isinstance(getattr(value, name), MaskStore)}
    return dict(vars(value))


def _make(made: type, attributes: dict[str, Any], store: MaskStore | None) -> Any:
    if made is StoredSamples:
        attributes["store"] = store
    if made in DERIVED or dataclasses.is_dataclass(made):
        try:
            return made(**attributes)
        except TypeError as error:
            raise ValueError(f"{made.__name__}: {error}") from error
    value: Any = object.__new__(made)
    vars(value).update(attributes)
    return value
