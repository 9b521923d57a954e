"""One file a chart. Its contract, as module attributes:

TITLE   what the chart shows
QUERY   the query of the catalogue whose answer it draws
draw(rows) -> alt.Chart   from the answer as a data frame; NaN and infinities are drawn as what they are
"""
