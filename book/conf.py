"""Sphinx settings of the site; ``build.py`` lays the sources out and calls Sphinx."""

# It prepares for Paddle, which autodoc loads.
import attn_book  # noqa: F401

project = "Attention blocks, reproduced"
html_show_copyright = False
html_show_sphinx = False

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "chinese_search",
]
locale_dirs = ["locale"]
templates_path = ["templates"]
exclude_patterns = ["records/*.md"]

# Pages show what was computed when they were executed; nothing is computed again here.
nb_execution_mode = "off"
nb_merge_streams = True
# Jupyter widgets would be fetched from a content network.
nb_ipywidgets_js = {}
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = True
html_sourcelink_suffix = ""
html_context = {"default_mode": "auto"}
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "footer_content_items": [],
    "article_header_end": ["language.html", "article-header-buttons.html"],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "use_edit_page_button": False,
    "use_issues_button": False,
    "use_repository_button": False,
    "use_source_button": False,
}

# Draws formulas as vector graphics and fetches nothing further: neither fonts nor extensions.
mathjax_path = "tex-svg-full.js"
