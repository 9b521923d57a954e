-- Means, intervals and differences over samples.

-- Student's t at 95 %, two-sided: the table to 20 degrees of freedom, above them the first terms of its expansion in
-- 1/df (Abramowitz & Stegun 1964, 26.7.5), within 2e-7 of the quantile. NULL below one degree.
create or replace macro t_95(df) as case
    when df < 1 then null
    when df <= 20 then [
        12.70620474, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.446911851, 2.364624252, 2.306004135,
        2.262157163, 2.228138852, 2.20098516, 2.17881283, 2.160368656, 2.144786688, 2.131449546, 2.119905299,
        2.109815578, 2.10092204, 2.093024054, 2.085963447
    ][df]
    else 1.959963985 + (2.37227123 + (2.822498616 + (2.55584968 + 1.589534053 / df) / df) / df) / df
end;

-- The 95 % interval of a mean of n values by Student's t; NULL for n = 1, and for equal values, which show no spread.
create or replace macro interval_of(mean, sd, n) as {
    'low': if(sd > 1e-12 * abs(mean), mean - t_95(n - 1) * sd / sqrt(n), null),
    'high': if(sd > 1e-12 * abs(mean), mean + t_95(n - 1) * sd / sqrt(n), null)
};

-- One number for several: of those that are finite, or what is not finite where none is.
create or replace macro finite_avg(value) as coalesce(avg(value) filter (isfinite(value)), any_value(value));
create or replace macro finite_median(value) as coalesce(median(value) filter (isfinite(value)), any_value(value));

-- What the runs that were measured say together of one flag.
create or replace macro agreement(fired, measured) as case
    when coalesce(measured, 0) = 0 then 'not measured'
    when fired = 0 then 'passes'
    when fired = measured then 'fires'
    else 'MIXED'
end;

-- A less B of two accuracies by sample, in percentage points: over their common samples where there are two or more, else
-- the difference of the two means, which has no sd here. `fa-track compare` gives its interval.
create or replace macro paired_pp(a, b) as
list_transform(list_intersect(map_keys(a), map_keys(b)), lambda sample: 100 * (a[sample] - b[sample]));
create or replace macro difference(a, b) as {
    'mean': if(
        len(paired_pp(a, b)) > 1, list_avg(paired_pp(a, b)), 100 * (list_avg(map_values(a)) - list_avg(map_values(b)))
    ),
    'sd': list_stddev_samp(paired_pp(a, b)),
    'n_pairs': coalesce(len(paired_pp(a, b)), 0),
    'n_a': coalesce(cardinality(a), 0),
    'n_b': coalesce(cardinality(b), 0)
};
