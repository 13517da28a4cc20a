"""What the documentation site is made with, beside Sphinx: pages that are filled in from the code."""
