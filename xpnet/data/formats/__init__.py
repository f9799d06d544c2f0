"""Readers for the file formats of digits: IDX, NumPy's npz and npy, pickles, MATLAB's .mat and CSV.

Files are assumed to be hostile: sizes are checked before memory is requested, nothing in a file is ever executed, and
any fault raises a DataError of one line that begins with the file's path. Reading takes no more memory than 64 MiB and
8 bytes for each byte of content, which is at most MAX_BYTES and, if it is packed, at most FREE_BYTES or MAX_RATIO times
its packed size (packed.py); a raw IDX file of images beyond that is mapped, and a set in parts stays in its files.
"""

from .detect import read, read_split
from .idx import idx_files, idx_name, idx_sha256, read_idx, read_idx_split, write_idx
from .mat import read_mat
from .npz import read_npy, read_npz, read_npz_arrays
from .parts import write_parts
from .pickles import read_pickle  # nosec B403
from .shared import MAX_BYTES
from .tables import read_beside, read_table

__all__ = [
    "MAX_BYTES",
    "idx_files",
    "idx_name",
    "idx_sha256",
    "read",
    "read_beside",
    "read_idx",
    "read_idx_split",
    "read_mat",
    "read_npy",
    "read_npz",
    "read_npz_arrays",
    "read_pickle",
    "read_split",
    "read_table",
    "write_idx",
    "write_parts",
]
