//! What the process gave up, as `/readyz` and `/metrics` say it.

use super::{
    exposition::{Family, Kind},
    health::Condition,
};
use crate::sandbox::Confinement;

/// Watching goes on without it, so readiness does not need it.
pub fn condition(confinement: &Confinement) -> Condition {
    // What this kernel lacks is no news every day; the detail has it.
    Condition::said("sandbox", true, confinement.to_string())
}

/// 1 for each layer that is in force.
pub fn families(confinement: Option<&Confinement>) -> Vec<Family> {
    let mut family = Family::new(
        "mcp_monitor_sandbox",
        Kind::Gauge,
        "What the process gave up once it was attached, by layer: 1 in force, 0 not. The log and /readyz say how far.",
    );
    for (layer, on) in [
        (
            "capabilities",
            confinement.is_some_and(|c| c.capabilities.is_on()),
        ),
        ("landlock", confinement.is_some_and(|c| c.landlock.is_on())),
        ("seccomp", confinement.is_some_and(|c| c.seccomp.is_on())),
    ] {
        family = family.with(vec![("layer", layer.to_owned())], f64::from(u8::from(on)));
    }
    vec![family]
}
