-- title: Penalty by method: what λ costs BP, what it gives a method, and the gap that remains
-- columns: architecture, width, depth, epochs, method, penalty, contrast, difference_pp, sd, n_pairs, n_a, n_b, mean_a, mean_b, recipe_a, recipe_b
-- Each contrast is A less B in percentage points of accuracy: over the n_pairs seeds that both have where there are two
-- or more (sd: sample standard deviation of the pairs), else of the two means, of n_a and n_b seeds, without a sd. A
-- method and bp differ in nothing else but what a rule brings along: the clipping and its credit's treatment (recipe_a,
-- recipe_b). λ in the contrast stands for penalty. A missing cell leaves out its contrasts. Frozen controls, diverged and
-- aborted runs are in none.
with cells as (
    select * from siblings_of($experiment, ['method', 'penalty']) where not coalesce(frozen_blocks, false)
),
penalties as (select distinct others, method, strength from cells where strength > 0),
named as (
    select others, p.method, strength, unnest([
        {'place': 1, 'a': p.method, 'b': p.method, 'on_a': strength, 'on_b': 0},
        {'place': 2, 'a': 'bp', 'b': p.method, 'on_a': 0, 'on_b': 0},
        {'place': 3, 'a': 'bp', 'b': p.method, 'on_a': 0, 'on_b': strength},
        {'place': 4, 'a': 'bp', 'b': p.method, 'on_a': strength, 'on_b': strength}
    ]) as c
    from penalties p
)
select
    a.architecture, a.width, a.depth, a.epochs, named.method, named.strength as penalty,
    a.method || if(a.strength > 0, ' + λ', '') || ' less ' || b.method || if(b.strength > 0, ' + λ', '') as contrast,
    d.mean as difference_pp, d.sd, d.n_pairs, d.n_a, d.n_b, a.accuracy_mean as mean_a, b.accuracy_mean as mean_b,
    array_to_string(a.recipe, ' ') as recipe_a, array_to_string(b.recipe, ' ') as recipe_b
from named
join cells a on a.others = named.others and a.method = c.a and a.strength = c.on_a
join cells b on b.others = named.others and b.method = c.b and b.strength = c.on_b
    and (a.method <> b.method or a.recipe = b.recipe),
lateral (select difference(a.accuracies, b.accuracies) as d)
where c.place = 1 or named.method <> 'bp'
order by
    a.architecture, a.width, a.depth, a.epochs, named.others, named.method <> 'bp', named.method, penalty, c.place,
    a.cell, b.cell;
