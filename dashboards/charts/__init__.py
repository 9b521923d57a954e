"""One file a chart. Its contract, as module attributes:

TITLE   what the chart shows
QUERY   the query of the catalogue whose answer it draws
ORDER   its place on a page; without it, behind all others
draw(rows) -> alt.Chart   from the answer as a data frame of Python objects: NULL is None, NaN and infinities are
        floats, and are drawn as what they are. Means and intervals come from the query
describe(rows) -> str   what is to be seen, in a sentence or two, for those who cannot see it; from the rows as well

The data that a mark is drawn from keeps those of the columns method, architecture, width, seed and run_id that the
query has: by them a page filters the marks and picks runs. A mark of one run takes its opacity from ``theme.opacity``.
A chart is at most ``theme.FULL_WIDTH`` wide, its axes and legends counted; one for a single column,
``theme.COLUMN_WIDTH``.
"""
