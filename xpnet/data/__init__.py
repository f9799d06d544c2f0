"""Data sets: reading them, finding and downloading the well-known ones, and digits, which xpnet draws itself."""

from xpnet.errors import DataError

from .arrays import TASKS
from .dataset import Dataset, Split
from .formats import read, read_idx, read_mat, read_npy, read_npz, read_pickle, read_table, write_idx, write_parts
from .mapped import Parts, is_mapped, rows_of
from .pictures import Found, from_ink, read_page, read_picture, to_form
from .schema import SCALES, Scaling, Schema
from .search import download, load_data, locate
from .sets import SETS, class_names, shown_names

__all__ = [
    "SCALES",
    "SETS",
    "TASKS",
    "DataError",
    "Dataset",
    "Found",
    "Parts",
    "Scaling",
    "Schema",
    "Split",
    "class_names",
    "download",
    "from_ink",
    "is_mapped",
    "load_data",
    "locate",
    "read",
    "read_idx",
    "read_mat",
    "read_npy",
    "read_npz",
    "read_page",
    "read_pickle",
    "read_picture",
    "read_table",
    "rows_of",
    "shown_names",
    "to_form",
    "write_idx",
    "write_parts",
]
