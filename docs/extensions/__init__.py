"""What Sphinx does for these pages beyond its own: formulas, figures, tables of results, help texts."""
