//! What a run is about: a scheme and a scenario of the image, and a mode that fits.

use super::Mode;
use super::declare::{Declarations, Scenario, Scheme};

/// A scheme and a scenario of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The scheme; the mode is its own.
    pub scheme: Scheme,
    /// The scenario.
    pub scenario: Scenario,
}

/// Names that the image does not have, or that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No such scheme.
    #[error("no scheme {name:?}{hint}")]
    Scheme {
        /// The name, as it was given.
        name: String,
        /// What there is.
        hint: String,
    },
    /// No such scenario.
    #[error("no scenario {name:?}{hint}")]
    Scenario {
        /// The name, as it was given.
        name: String,
        /// What there is.
        hint: String,
    },
    /// The scheme has another mode.
    #[error("scheme {scheme} runs in mode {has}, not {wanted}{hint}")]
    Mode {
        /// The scheme's name.
        scheme: String,
        /// Its mode.
        has: Mode,
        /// The one asked for.
        wanted: Mode,
        /// Schemes of that mode.
        hint: String,
    },
    /// The scenario wants what the scheme's kernel does not have.
    #[error(
        "scenario {scenario} runs user code, needs the CPU's own iret, or has page tables apart for user code (kpti); scheme {scheme} (mode {mode}) is not made for that"
    )]
    Ring3 {
        /// The scheme's name.
        scheme: String,
        /// The scenario's name.
        scenario: String,
        /// The scheme's mode.
        mode: Mode,
    },
}

impl Target {
    /// Finds both by name; where a mode is asked for, it must be the scheme's.
    pub fn find(
        declared: &Declarations,
        scheme: &str,
        scenario: &str,
        mode: Option<Mode>,
    ) -> Result<Self, TargetError> {
        let scheme = find_scheme(declared, scheme)?.clone();
        let scenario = find_scenario(declared, scenario)?.clone();
        match mode {
            Some(wanted) if wanted != scheme.mode => Err(wrong_mode(declared, &scheme, wanted)),
            _ if !fit(&scheme, &scenario) => {
                Err(TargetError::Ring3 { scheme: scheme.name, scenario: scenario.name, mode: scheme.mode })
            }
            _ => Ok(Self { scheme, scenario }),
        }
    }
}

/// Whether the scheme's kernel can run the scenario: user code wants a way into ring 3, and
/// one about the CPU's own iret a CPU that owns the mask; page tables apart for user code an entry
/// that says that it knows of them.
pub fn fit(scheme: &Scheme, scenario: &Scenario) -> bool {
    let owned = scheme.mode == Mode::Native || !scenario.native;
    owned && (scheme.ring3 || !scenario.ring3) && (scheme.kpti || !scenario.kpti)
}

/// The scheme called `name`.
pub fn find_scheme<'d>(declared: &'d Declarations, name: &str) -> Result<&'d Scheme, TargetError> {
    declared.schemes.iter().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<_> = declared.schemes.iter().filter(|s| !s.exhibit()).map(|s| s.name.as_str()).collect();
        let all: Vec<_> = declared.schemes.iter().map(|s| s.name.as_str()).collect();
        TargetError::Scheme { name: name.to_owned(), hint: hint(name, &all, &known) }
    })
}

/// The scenario called `name`.
pub fn find_scenario<'d>(declared: &'d Declarations, name: &str) -> Result<&'d Scenario, TargetError> {
    declared.scenarios.iter().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<_> = declared.scenarios.iter().map(|s| s.name.as_str()).collect();
        TargetError::Scenario { name: name.to_owned(), hint: hint(name, &known, &known) }
    })
}

/// The error for a scheme asked to run in a mode that is not its own.
pub fn wrong_mode(declared: &Declarations, scheme: &Scheme, wanted: Mode) -> TargetError {
    let fit = declared.schemes.iter().filter(|s| s.mode == wanted && !s.exhibit());
    let fit: Vec<_> = fit.map(|s| s.name.as_str()).collect();
    let hint = match fit.as_slice() {
        [] => String::new(),
        names => format!("; in mode {wanted} there are: {}", names.join(", ")),
    };
    TargetError::Mode { scheme: scheme.name.clone(), has: scheme.mode, wanted, hint }
}

/// `; did you mean X? There are: A, B`: the nearest of `all`, the list of `shown`.
pub fn hint(name: &str, all: &[&str], shown: &[&str]) -> String {
    let there = if shown.is_empty() { String::new() } else { format!("there are: {}", shown.join(", ")) };
    match nearest(name, all) {
        Some(near) if there.is_empty() => format!("; did you mean {near}?"),
        Some(near) => format!("; did you mean {near}? (T{})", &there[1..]),
        None if there.is_empty() => String::new(),
        None => format!("; {there}"),
    }
}

/// The name that a typing slip could have made into `name`.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |k: &str| strsim::jaro_winkler(&name.to_lowercase(), k);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.75).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let known = ["naive", "linus-2010", "linus-2010-fixed", "xen-flag"];
        assert_eq!(nearest("niave", &known), Some("naive"));
        assert_eq!(nearest("Xen_flag", &known), Some("xen-flag"));
        assert_eq!(nearest("qqq", &known), None);
        assert_eq!(hint("qqq", &known, &["a", "b"]), "; there are: a, b");
        assert_eq!(hint("linus2010", &known, &["a"]), "; did you mean linus-2010? (There are: a)");
    }
}
