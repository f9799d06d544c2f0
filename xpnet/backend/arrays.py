"""Arrays of any library that xpnet knows: whose they are, where they lie, and the way from there to NumPy."""

from typing import Any

import numpy as np

__all__ = ["home_of", "is_on_host", "namespace_of", "to_numpy"]


def home_of(array: Any) -> tuple[str, str] | None:
    """The library and the device of an array, as select takes them, such as ("torch", "cuda:0").

    None for anything that is not an array of a library that xpnet knows.
    """
    if isinstance(array, np.ndarray | np.generic):
        return "numpy", "cpu"
    from array_api_compat import device, is_cupy_array, is_jax_array, is_torch_array  # costs as much as NumPy

    if is_torch_array(array):
        return "torch", str(array.device)
    if is_cupy_array(array):
        return "cupy", f"cuda:{array.device.id}"
    if is_jax_array(array):
        found = next(iter(array.devices()))
        return "jax", "cpu" if found.platform == "cpu" else f"cuda:{found.id}"
    if type(array).__module__.partition(".")[0] == "array_api_strict":
        name = str(device(array))
        return "array-api-strict", "device1" if "device1" in name else "cpu"
    return None


def is_on_host(array: Any) -> bool:
    """Whether an array lies in the computer's own memory, or is not an array of a known library at all."""
    home = home_of(array)
    return home is None or home[1] == "cpu"


def namespace_of(array: Any) -> Any:
    """The Array API namespace of an array; NumPy's own for NumPy's."""
    if isinstance(array, np.ndarray):
        return np
    from array_api_compat import array_namespace

    return array_namespace(array)


def to_numpy(array: Any) -> np.ndarray:
    """A NumPy array of the same content, which shares its memory where it can; not to be written into.

    array : of any library that xpnet knows, on any device. A type that NumPy lacks, such as bfloat16, becomes float32.
    """
    home = home_of(array)
    if home is None or home[0] == "numpy":
        return array if isinstance(array, np.memmap) else np.asarray(array)
    if home[0] == "torch":
        array = array.detach().cpu()
        narrow = array.is_floating_point() and array.element_size() == 2 and "bfloat16" in str(array.dtype)
        return np.asarray((array.float() if narrow else array).numpy())
    if home[0] == "cupy":
        return np.asarray(array.get())
    if home[0] == "array-api-strict":
        cpu = namespace_of(array).Device("CPU_DEVICE")
        return np.asarray(array.to_device(cpu))
    found = np.asarray(array)
    return found if found.dtype.kind != "V" else found.astype(np.float32)
