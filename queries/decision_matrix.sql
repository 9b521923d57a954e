-- title: What each of seven reporting strategies says of each method: walked back, kept, MIXED or not measured
-- columns: method, architecture, width, depth, dataset, epochs, lr, penalty, frozen_blocks, augmentation, also, strategy, place, decision, n, n_measured, n_walked_back
-- A row a cell and strategy, as decision_utility counts them: a cell's audited runs that ended as planned, without the
-- frozen controls. Of its n runs n_measured have what the strategy goes by. place: the order of the strategies.
select
    any_value(method) as method, any_value(architecture) as architecture, any_value(width) as width,
    any_value(depth) as depth, any_value(dataset) as dataset, any_value(epochs) as epochs, any_value(lr) as lr,
    any_value(penalty) as penalty, any_value(frozen_blocks) as frozen_blocks,
    any_value(augmentation) as augmentation, any_value(also) as also, strategy, place,
    case agreement(count(*) filter (walks_back), count(walks_back))
        when 'fires' then 'walked back' when 'passes' then 'kept' when 'MIXED' then 'MIXED' else 'not measured'
    end as decision,
    count(*) as n, count(walks_back) as n_measured, count(*) filter (walks_back) as n_walked_back
from decisions_of($experiment)
group by cell, place, strategy
order by architecture, width, depth, dataset, method, penalty, augmentation, epochs, lr, cell, place;
