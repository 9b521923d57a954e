-- The results database. Times are UTC. NaN and infinities are kept as the doubles that they are; NULL means not measured.

create table exports (
    source varchar primary key,         -- tracking URI of the store
    exported_at timestamp not null,   -- when it was last exported
    runs bigint not null,
    metrics bigint not null
);

-- Of the files that made this database: another version of them asks for another database. Reading 2: raised where
-- derive.sql or what it asks comes to read a param otherwise, as the columns of an older database were read the old way.
create table schema_digest (digest varchar not null);

-- What tells at the next export whether a run's metrics have changed since the last one.
create table marks (run_id varchar primary key, source varchar not null, mark varchar not null);

create table runs (
    run_id varchar primary key,
    source varchar not null,            -- tracking URI of the store that holds it
    experiment varchar not null,
    run_name varchar,
    status varchar not null,            -- RUNNING, FINISHED, FAILED, KILLED
    start_time timestamp,
    end_time timestamp,
    artifact_uri varchar,
    method varchar,
    rule_definition integer,            -- which definition of its method; NULL: it logs none, as of 1
    architecture varchar,
    definition integer,                 -- which definition of its architecture; NULL: it logs none, as of 1
    width integer,
    depth integer,
    expansion integer,                  -- hidden units of a block for each of its width; 0: the network's own
    alpha double,                       -- share of tanh in student_net's activation
    dataset varchar,
    labels varchar,                     -- of training: true, or random
    seed bigint,
    epochs integer,
    batch_size integer,
    optimizer varchar,
    lr double,
    lr_schedule varchar,                -- over the epochs: constant or cosine
    lr_warmup integer,                  -- epochs in which lr rises, before the schedule begins
    momentum double,                    -- of SGD
    weight_decay double,
    clip_norm double,                   -- the largest norm of a block's gradient; infinite: none is clipped
    penalty double,                     -- λ of λ·‖f_l(h_l)‖²
    credit_normalisation varchar,       -- of each sample's local credit: none or rms
    credit_index varchar,               -- whose credit a block learns from: that of its input or of its output
    trainable_blocks integer,           -- k of a run that trains the last k of its blocks; NULL: all of an unknown number
    frozen_blocks boolean,              -- trainable_blocks is 0; NULL: nothing is said of it
    augmentation varchar,
    aborted_at integer,                 -- the epoch at which a flag stopped it; NULL: it ran to its end
    cell varchar                        -- all params that set it apart but the seed, which alone differs within a cell
);

create table params (run_id varchar not null, key varchar not null, value varchar, primary key (run_id, key));

create table tags (run_id varchar not null, key varchar not null, value varchar, primary key (run_id, key));

create table metrics (
    run_id varchar not null,
    key varchar not null,
    step bigint not null,               -- the epoch
    value double not null,
    timestamp timestamp not null
);

-- One row a run, epoch and hidden state h_layer.
create table layers (
    run_id varchar not null,
    step bigint not null,
    layer integer not null,
    residual_norm double,               -- ‖h_l‖, median over samples
    grad_norm double,                   -- ‖g_l‖, median over samples, at mean reduction over a batch of 128
    alignment double,                   -- Γ at h_l against the training feedback; NULL below the floor
    alignment_pooled double,            -- Γ with all samples taken as one vector
    alignment_null_mean double,         -- mean of Γ over fresh draws of the feedback
    alignment_null_sd double,           -- sample standard deviation over the draws
    perturbation double,                -- ρ at h_l of the rule's credit; these seven where an epoch was asked for them
    perturbation_bp double,             -- ρ of BP's gradient
    perturbation_random double,         -- ρ of a random vector
    perturbation_float32 double,        -- ρ of the rule's credit, all of it in float32
    nudge double,                       -- Δ at h_l of the rule's credit: the mean change of the loss
    nudge_bp double,                    -- Δ of BP's gradient
    nudge_random double                 -- Δ of a random vector
);

-- Block knock-out of an audited run: accuracy in [0, 1] on the protocol's evaluation samples.
create table knockouts (
    run_id varchar not null,
    removed varchar not null,           -- none, the index of one block, or all
    accuracy double not null,
    samples integer not null,
    primary key (run_id, removed)
);

-- Functional measures of an audited run: one row a hidden state h_layer and credit. NULL: missing; its report says why.
create table functional (
    run_id varchar not null,
    layer integer not null,
    credit varchar not null,            -- rule (its local credit), bp (BP's gradient) or random (a random vector)
    perturbation double,                -- ρ: correlation of the credit's word on small moves with the change of the loss
    perturbation_error double,          -- its standard error, a jackknife over samples
    perturbation_float32 double,        -- ρ where all of it is in float32
    nudge double,                       -- Δ: mean change of the loss when the state moves by 0.01 against the credit
    nudge_error double,                 -- its standard error over samples
    alignment double,                   -- Γ at h_l, of the rule's credit; NULL below the floor
    alignment_error double,             -- its standard error over samples
    samples integer,                    -- of the protocol's evaluation samples, for ρ and Δ
    primary key (run_id, layer, credit)
);

-- One row an audited run: its last audit.
create table audits (
    run_id varchar primary key,
    verdict varchar not null,
    flags varchar not null,             -- letters of what fired: n (not finite), a, b, c, d
    evidence varchar,                   -- full or partial
    epoch integer,                      -- of the checkpoint
    headline_accuracy double,           -- in [0, 1]
    control_accuracy double,            -- mean over the control runs' seeds
    margin_pp double,                   -- (d), percentage points
    max_block_growth double,            -- (a)
    stream_growth double,               -- of the whole stream, where the states are the class token's; it judges (a) too
    deepest_residual_norm double,       -- ‖h_L‖
    deepest_grad_norm double,           -- ‖g_L‖
    grad_gain double,                   -- ‖g_L‖/‖e‖
    chance_error double,                -- ‖e‖ of a uniform output over the classes; NULL: not known, taken as 0.95
    reference varchar,                  -- whether the gradient is BP's: checked, not checked or not BP's
    stability double,                   -- (c)
    fires_n boolean,                    -- NULL: not measured
    fires_a boolean,
    fires_b boolean,
    fires_c boolean,
    fires_d boolean,
    kinds varchar,                      -- JSON: how far each diagnostic's number is known, by its letter
    inexact varchar,                    -- JSON: the numbers that are bounds or proxies, by letter
    extra map(varchar, double),         -- what diagnostics beyond the four measured, by name
    further struct(flag varchar, value double, threshold double, fires boolean, kind varchar)[],  -- a diagnostic beyond the four each
    h_norm_explosion_ratio double,      -- the thresholds of this audit
    g_norm_floor double,
    stability_drift_ceiling double,
    frozen_acc_margin_pp double,
    control_runs varchar[],
    protocol_version varchar,
    checkpoint_sha256 varchar,
    audited_at timestamp
);
