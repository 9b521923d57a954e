"""The single numbers in the text of docs/reproduction.md, each asked of the view ``audited`` of reproduction.py."""

MAIN = "from audited where experiment = 'reproduction' and not frozen_blocks and penalty = 0"
CROP = "from audited where augmentation = 'crop_flip' and dataset = 'cifar10' and method = "
LAST_TEN = (
    "select avg(m.value) from runs r join metrics m using (run_id) where m.key = 'diagnostics/stability' "
    "and r.dataset = 'cifar10' and m.step > r.epochs - 10 and r.epochs = 30 and {}"
)
PENALISED = "from audited where experiment = 'reproduction' and method = 'dfa' and penalty = 0.01"
DIRECT = "from audited where method = 'state_bridge_direct' and dataset = 'cifar10'"
FIRES = "select count(*) filter (fires_{}) || ' of ' || count(*) {}"
WIDE = "select {} from audited where experiment = 'reproduction_wide' and method = 'dfa' and architecture = '{}'"
WEAK = "from audited where experiment = 'reproduction' and method = 'dfa' and penalty = 0.001"
BP_COST = (
    "select 100 * (avg(accuracy) filter (penalty = 0) - avg(accuracy) filter (penalty = 0.01)) "
    "from audited where experiment = 'reproduction' and method = 'bp' and not frozen_blocks"
)
FIRST_BELOW = """
select string_agg(first, ', ' order by seed) from (
    select r.seed, min(m.step) as first from runs r join metrics m using (run_id)
    where r.experiment = 'reproduction' and r.method = 'dfa' and r.penalty = 0 and not r.frozen_blocks
        and m.key = 'diagnostics/deepest_grad_norm' and m.value * {} < 1e-7
    group by r.seed
)
"""
KNOCKED = """
select avg(k.accuracy) from runs r join knockouts k using (run_id)
where r.experiment = 'reproduction' and r.method = 'dfa' and r.penalty = 0 and not r.frozen_blocks and k.removed = '{}'
"""
VALUES = {
    "cnn_growth": (WIDE.format("growth", "small_cnn"), ".1f"),
    "cnn_epochs": (WIDE.format("audited_epoch", "small_cnn"), "d"),
    "student_growth": (WIDE.format("growth", "student_net"), ".1f"),
    "student_epochs": (WIDE.format("audited_epoch", "student_net"), "d"),
    "vit_growth": (WIDE.format("growth", "vit_mini"), ".0e"),
    "vit_epochs": (WIDE.format("audited_epoch", "vit_mini"), "d"),
    "wide_growth": (WIDE.format("growth", "resmlp"), ".0f"),
    "wide_epochs": (WIDE.format("audited_epoch", "resmlp"), "d"),
    "bp_c": (FIRES.format("c", MAIN) + " and method = 'bp'", ""),
    "fa_c": (FIRES.format("c", MAIN) + " and method = 'fa'", ""),
    "sb_c": (FIRES.format("c", MAIN) + " and method = 'state_bridge'", ""),
    "fa_crop_c": (f"select stability {CROP} 'fa'", ".2f"),
    "sb_crop_c": (f"select stability {CROP} 'state_bridge'", ".2f"),
    "fa_seed_c": (f"select stability {MAIN} and method = 'fa' and seed = 42", ".2f"),
    "sb_seed_c": (f"select stability {MAIN} and method = 'state_bridge' and seed = 42", ".2f"),
    "fa_test": (f"select avg(accuracy) {MAIN} and method = 'fa'", ".3f"),
    "fa_crop_test": (f"select accuracy {CROP} 'fa'", ".3f"),
    "cb_test": (f"select avg(accuracy) {MAIN} and method = 'credit_bridge'", ".3f"),
    "b_first": (FIRST_BELOW.format(1), ""),
    "b_first_1280": (FIRST_BELOW.format(0.1), ""),
    "weak_n": (f"select count(*) {WEAK}", "d"),
    "weak_pass": (f"select count(*) {WEAK} and not fires_d", "d"),
    "weak_margin": (f"select avg(margin_pp) {WEAK}", "+.1f"),
    "bp_cost": (BP_COST, ".1f"),
    "ep_n": (f"select count(*) {MAIN} and method = 'ep'", "d"),
    "ep_a": (f"select count(*) filter (fires_a) {MAIN} and method = 'ep'", "d"),
    "ep_b": (f"select count(*) filter (fires_b) {MAIN} and method = 'ep'", "d"),
    "ep_d": (f"select count(*) filter (fires_d) {MAIN} and method = 'ep'", "d"),
    "ep_epochs": (f"select min(epochs) {MAIN} and method = 'ep'", "d"),
    "ep_low": (f"select min(accuracy) {MAIN} and method = 'ep'", ".3f"),
    "ep_high": (f"select max(accuracy) {MAIN} and method = 'ep'", ".3f"),
    "dfa_whole": (KNOCKED.format("none"), ".2f"),
    "dfa_without": (KNOCKED.format("all"), ".2f"),
    "direct_epochs": (f"select audited_epoch {DIRECT}", "d"),
    "bp_stability": (f"select avg(stability) {MAIN} and method = 'bp'", ".2f"),
    "bp_test": (f"select avg(accuracy) {MAIN} and method = 'bp'", ".3f"),
    "bp_train": (f"select avg(accuracy_train) {MAIN} and method = 'bp'", ".2f"),
    "crop_stability": (f"select stability {CROP} 'bp'", ".2f"),
    "crop_test": (f"select accuracy {CROP} 'bp'", ".3f"),
    "crop_train": (f"select accuracy_train {CROP} 'bp'", ".2f"),
    "crop_stability_mean": (LAST_TEN.format("augmentation = 'crop_flip' and method = 'bp'"), ".2f"),
    "bp_stability_mean": (LAST_TEN.format("experiment = 'reproduction' and method = 'bp' and penalty = 0"), ".2f"),
    "dfa_test": (f"select avg(accuracy) {MAIN} and method = 'dfa'", ".3f"),
    "dfa_crop_test": (f"select accuracy {CROP} 'dfa'", ".3f"),
    "dfa_crop_g": (f"select g_norm {CROP} 'dfa'", ".1e"),
    "dfa_crop_growth": (f"select growth {CROP} 'dfa'", ".0f"),
    "penalised_n": (f"select count(*) {PENALISED}", "d"),
    "penalised_pass": (f"select count(*) {PENALISED} and not fires_d", "d"),
    "penalised_margin": (f"select avg(margin_pp) {PENALISED}", "+.1f"),
    "dfa_growth_low": (f"select min(growth) {MAIN} and method = 'dfa'", ".0f"),
    "dfa_growth_high": (f"select max(growth) {MAIN} and method = 'dfa'", ".0f"),
    "dfa_g_low": (f"select min(g_norm) {MAIN} and method = 'dfa'", ".1e"),
    "dfa_g_high": (f"select max(g_norm) {MAIN} and method = 'dfa'", ".1e"),
    "sb_growth": (f"select max(growth) {MAIN} and method = 'state_bridge'", ".2f"),
    "direct_growth": (f"select growth {DIRECT}", ".2f"),
    "direct_accuracy": (f"select accuracy {DIRECT}", ".3f"),
    "direct_g": (f"select g_norm {DIRECT}", ".1e"),
    "cb_growth_low": (f"select min(growth) {MAIN} and method = 'credit_bridge'", ".1e"),
    "cb_growth_high": (f"select max(growth) {MAIN} and method = 'credit_bridge'", ".1e"),
}
"""Single numbers of the text, as (SQL, format)."""
