"""Compiled loops over column blocks in host memory; no rule, no array library, no threads of their own.

Every loop over columns is element-wise, hence the bits do not depend on where a block is cut.
"""

from __future__ import annotations

from byzflow.kernels.native.addresses import TILE, addresses_of, combine, gather, squared_norms_at, taken
from byzflow.kernels.native.centre import is_finite, pick_centre, squared_norms
from byzflow.kernels.native.columns import majority, mean_std
from byzflow.kernels.native.gram import accept_gram, centred_gram, small_gram
from byzflow.kernels.native.normal import shuffled, write_normals, ziggurat
from byzflow.kernels.native.products import set_zero_apart, write_products
from byzflow.kernels.native.ranked import ranked_means
from byzflow.kernels.native.spread import spread

__all__ = (
    "TILE",
    "accept_gram",
    "addresses_of",
    "centred_gram",
    "combine",
    "gather",
    "is_finite",
    "majority",
    "mean_std",
    "pick_centre",
    "ranked_means",
    "set_zero_apart",
    "shuffled",
    "small_gram",
    "spread",
    "squared_norms",
    "squared_norms_at",
    "taken",
    "write_normals",
    "write_products",
    "ziggurat",
)
