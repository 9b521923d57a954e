-- Names the cells of the runs in touched, by what cell_params() of macros/cells.sql tells of them.

update runs set cell = c.cell
from (
    select run_id, string_agg(quoted(key) || '=' || quoted(value), ' ' order by key) as cell
    from cell_params() semi join touched using (run_id) group by run_id
) as c
where runs.run_id = c.run_id and runs.run_id in (from touched);
