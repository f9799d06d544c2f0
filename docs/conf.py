"""The site: `sphinx-build -W docs site`, with xpnet, its extra sklearn and the dependency group docs installed."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from sphinx.pycode import ModuleAnalyzer

import xpnet

# Modules by the names that users know them by: xpnet.functional, not xpnet.numerics.functional.
for name in ("functional", "optim", "augment", "plots", "export", "sklearn"):
    sys.modules[f"xpnet.{name}"] = module = getattr(xpnet, name)
    ModuleAnalyzer.cache["module", f"xpnet.{name}"] = ModuleAnalyzer.for_module(module.__name__)

project = "xpnet"
author = "The xpnet authors"
project_copyright = "The xpnet authors, MIT licence"
version = release = xpnet.__version__

extensions = ["house", "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests/house/test_notebook.py executes it
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False

smartquotes = False  # --flags are not dashes

html_theme = "furo"
html_title = "xpnet"
html_static_path = ["_static"]
html_css_files = ["xpnet.css"]
html_copy_source = html_show_sphinx = False
