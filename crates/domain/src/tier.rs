//! Tiers: what a project may have that is not the same for all. The operator says in the settings which there are; a
//! project names one, and one that names none, or one that there is not, goes by the general settings.

use std::collections::BTreeMap;

/// What projects of a tier may have. What it leaves out is as in general; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tier {
    /// Runs of one project driven at once, by all servers together.
    pub concurrent_runs: Option<u32>,
    /// Requests that all keys of a project together may make in a window.
    pub requests_per_window: Option<u32>,
}

/// The tiers of an installation, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers(BTreeMap<String, Tier>);

impl Tiers {
    pub fn is_known(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Gives how many runs a project of the tier may have at once, where those without one may have `general`.
    pub fn concurrent_runs(&self, tier: Option<&str>, general: u32) -> u32 {
        tier.and_then(|name| self.0.get(name)?.concurrent_runs).unwrap_or(general)
    }

    /// Gives the tiers that say themselves how many runs a project may have at once.
    pub fn all_concurrent_runs(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().filter_map(|(name, tier)| Some((name.as_str(), tier.concurrent_runs?)))
    }

    /// Gives the tiers that say themselves how often a project may ask.
    pub fn all_requests_per_window(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().filter_map(|(name, tier)| Some((name.as_str(), tier.requests_per_window?)))
    }
}

impl<N: Into<String>> FromIterator<(N, Tier)> for Tiers {
    fn from_iter<I: IntoIterator<Item = (N, Tier)>>(tiers: I) -> Self {
        Self(tiers.into_iter().map(|(name, tier)| (name.into(), tier)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tier_leaves_out_is_as_in_general() {
        let tiers: Tiers = [
            ("free", Tier { concurrent_runs: Some(2), requests_per_window: Some(100) }),
            ("internal", Tier { concurrent_runs: Some(0), requests_per_window: None }),
            ("named", Tier::default()),
        ]
        .into_iter()
        .collect();
        for (tier, most) in [(None, 5), (Some("free"), 2), (Some("internal"), 0), (Some("named"), 5), (Some("gone"), 5)]
        {
            assert_eq!(tiers.concurrent_runs(tier, 5), most, "{tier:?}");
        }
        assert_eq!(tiers.all_concurrent_runs().collect::<Vec<_>>(), [("free", 2), ("internal", 0)]);
        assert_eq!(tiers.all_requests_per_window().collect::<Vec<_>>(), [("free", 100)]);
        assert!(tiers.is_known("named") && !tiers.is_known("gone"));
    }
}
