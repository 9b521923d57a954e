-- What tells runs apart, and which are asked for. fa_tracking/cells.py says the same.

-- asked: the name of an experiment, or a tilde and a pattern of names, such as '~reproduction*'; '~*' asks for all.
create or replace macro is_asked(named, asked) as
named = asked or starts_with(asked, '~') and named glob substr(asked, 2) and asked not in (select r.experiment from runs r);

-- What a run means that does not log a param, where that is known: what version 0.1 did, which had none of these. NULL for
-- other params. Filled in from fa_tracking/cells.py.
create or replace macro absent_meaning(key) as $absent[key];

-- Whether a param tells its run from one that does not log it.
create or replace macro sets_apart(key, value) as
coalesce(plain(value, key) <> plain(absent_meaning(key), key), true);
create or replace macro says_blocks(key, value) as key = 'trainable_blocks' and blocks_in(value) is not null
or key = 'frozen_blocks' and truth_in(value) is not null;

-- The params by which cells are told apart: all but the seed, and but those that say what their absence would say as well;
-- trainable_blocks, where not all are trained, in the place of what runs log of it, which is frozen_blocks in those of
-- version 0.1. A value that cannot be read stays, if it is all. `apart` of fa_tracking/cells.py is the same.
create or replace macro cell_params() as table
with told as (
    select run_id, 'trainable_blocks' as key, cast(trainable_blocks as varchar) as value
    from runs where trainable_blocks is not null and trainable_blocks is distinct from depth
)
from told
union all
select run_id, key, plain(value, key) as value from params anti join told using (run_id, key)
where key <> 'seed' and not says_blocks(key, value) and sets_apart(key, value);

-- The params by which runs are chosen: what runs mean, logged or not. trainable_blocks and frozen_blocks are there whichever
-- of them a run logs. A value is in its one spelling, and plain() brings one that is asked for into it.
create or replace macro asked_params() as table
select run_id, key, plain(value, key) as value
from params where not says_blocks(key, value)
union all
select run_id, key, plain(absent_meaning(key), key)
from (select run_id from runs) cross join (select unnest(map_keys($absent)) as key) anti join params using (run_id, key)
union all
select run_id, 'trainable_blocks', cast(trainable_blocks as varchar) from runs where trainable_blocks is not null
union all
select run_id, 'frozen_blocks', if(frozen_blocks, '1', '0') from runs;

-- What a rule brings along: with another rule these are others too.
create or replace macro is_of_rule(key) as
key in ('rule_definition', 'clip_norm', 'credit_normalisation', 'credit_index');

-- What else sets finished runs apart: their params that vary among those asked for, less those that every answer shows,
-- and less what follows from these: what a rule brings along where every run of the method has it, a network's definition
-- where every run of the architecture has it.
create or replace macro also_of(asked) as table
with finished as (
    select run_id, method, architecture from runs where status = 'FINISHED' and is_asked(experiment, asked)
),
told as (
    select run_id, key, value, if(key = 'definition', architecture, if(is_of_rule(key), method, null)) as name
    from cell_params() join finished using (run_id)
    where key not in ('method', 'architecture')
        and not (key in ('width', 'depth', 'epochs') and whole_in(value) is not null)
        and not (key = 'penalty' and number_in(value) is not null)
        and not (key = 'trainable_blocks' and value = '0')  -- frozen_blocks says it
),
named as (
    select 'method' as kind, method as name, count(*) as n_runs from finished group by all
    union all
    select 'architecture' as kind, architecture as name, count(*) as n_runs from finished group by all
),
in_part as (
    select key from (
        select key, name, if(key = 'definition', 'architecture', 'method') as kind, count(distinct value) as n, count(*) as n_told
        from told where key = 'definition' or is_of_rule(key) group by all
    ) by_name join named on named.kind = by_name.kind and named.name is not distinct from by_name.name
    where n > 1 or n_told < n_runs
),
varied as (
    select key from told group by key
    having (count(distinct value) > 1 or count(*) < (select count(*) from finished))
        and (key <> 'definition' and not is_of_rule(key) or key in (from in_part))
)
select run_id, string_agg(quoted(key) || '=' || quoted(value), ' ' order by key) as also
from told semi join varied using (key) group by run_id;

-- Runs of one seed are one sample, also where it is no whole number; a run without a seed, or with an empty one, is its
-- own. `sample` of fa_tracking/cells.py is the same.
create or replace macro sample_of(run, seed) as coalesce(
    (select nullif(plain_text(bare(value)), '') from params where run_id = run and key = 'seed'), cast(seed as varchar), run
);
