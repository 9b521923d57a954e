-- How a param's value is read: its one spelling, and the numbers, truths and counts in it. fa_tracking/cells.py reads them alike.

-- A param's value in its one spelling: 1e-3, 1.0E-3 and 0.001 are one, True, true and 1 are, and 4 and 4.0. Those of a key in
-- words are names of choices. A number with a point or an exponent is the float64 that a training makes of it, however many
-- digits it is written with; whole digits of which a float64 does not hold all are an id. fa_tracking/cells.py reads them alike.
create or replace macro of_number(number) as case
    when isinf(number) then if(number > 0, 'inf', '-inf')
    when number = trunc(number) and abs(number) < 1e15 then cast(cast(number as bigint) as varchar)
    else cast(number as varchar)
end;
create or replace macro is_number(said) as
regexp_full_match(said, '[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?') and isfinite(try_cast(said as double));
create or replace macro is_id(said) as regexp_full_match(said, '[+-]?[0-9]{16,}');
create or replace macro bare(said) as trim(said, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13));
create or replace macro plain_text(said) as case
    when lower(said) in ('true', 'yes', 'on') then '1'
    when lower(said) in ('false', 'no', 'off') then '0'
    when regexp_full_match(said, '[+]?inf(inity)?', 'i') then 'inf'
    when regexp_full_match(said, '-inf(inity)?', 'i') then '-inf'
    when is_number(said) and not is_id(said) then of_number(try_cast(said as double))
    else said
end;
create or replace macro plain(value, key) as if(key in $words, lower(bare(value)), plain_text(bare(value)));

-- A part of a cell's name, which ends where it ends.
create or replace macro quoted(said) as if(regexp_full_match(said, '[^\s="'']+'), said, cast(to_json(said) as varchar));

-- A number of blocks and a truth as a param says them; NULL where it cannot be read. fa_tracking/cells.py reads them alike.
create or replace macro blocks_in(said) as if(
    regexp_full_match(plain_text(bare(said)), '[0-9]{1,9}') and lower(bare(said)) not in ('true', 'yes', 'on', 'false', 'no', 'off'),
    try_cast(plain_text(bare(said)) as integer), null
);
create or replace macro truth_in(said) as case plain_text(bare(said)) when '1' then true when '0' then false end;

-- A whole number and any as a param says them; NULL where it says none, for a cast rounds 0.1 to 0 and reads 1_000. Any is
-- read however many digits it has.
create or replace macro whole_in(said) as
if(regexp_full_match(plain_text(bare(said)), '-?[0-9]{1,18}'), try_cast(plain_text(bare(said)) as bigint), null);
create or replace macro number_in(said) as if(
    is_number(bare(said)) or plain_text(bare(said)) in ('inf', '-inf'), try_cast(plain_text(bare(said)) as double), null
);
