//! The image of an environment: what it is made from, and how far the making is.
//!
//! An environment says what its computer shall have; [`recipe`] turns that into a Dockerfile, as a pure function, so that
//! what is built can be shown, checked and hashed before anything runs. What comes from outside is checked here too:
//! names of packages by [`package`], lines of a Dockerfile by [`dockerfile`].

pub mod dockerfile;
pub mod package;
pub mod recipe;
pub mod runtime;
pub mod smoke_test;

use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::BuildId;

pub use recipe::{Recipe, Site};

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStatus {
    /// Waits for a builder.
    Queued,
    Running,
    /// Its image is there.
    Ready,
    Failed,
    /// Nobody wanted it any more.
    Cancelled,
    /// Its image was there, and was removed because nobody used it.
    Removed,
}

impl BuildStatus {
    const ALL: [Self; 6] = [Self::Queued, Self::Running, Self::Ready, Self::Failed, Self::Cancelled, Self::Removed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Removed => "removed",
        }
    }

    /// Tells whether somebody works on it, or will.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// A word that names no status of a build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown build status {0:?}")]
pub struct UnknownBuildStatus(pub String);

impl FromStr for BuildStatus {
    type Err = UnknownBuildStatus;

    fn from_str(status: &str) -> Result<Self, UnknownBuildStatus> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == status);
        found.ok_or_else(|| UnknownBuildStatus(status.to_owned()))
    }
}

/// A build as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub id: BuildId,
    /// Of all that the image is made from.
    pub hash: String,
    /// The name that the image has once it is there.
    pub image: String,
    pub status: BuildStatus,
    /// What failed, with the last lines that were said.
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// What an environment knows of its image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvironmentBuild {
    /// The build that its settings asked for last; `None` after they have changed.
    pub latest: Option<Build>,
    /// The image in use: of the last build that went well.
    pub image: Option<String>,
}
