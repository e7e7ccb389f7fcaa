//! Who changed what in an environment.
//!
//! `history` knows what files were and nothing of anybody; `store` has rows and no files. Here they meet: a snapshot is
//! taken, what changed is given to whoever did it, and both are written down as one. The executor does so after the calls
//! of a turn, the API after a request that wrote to a workspace, and neither knows of the other.
//!
//! [`Ledger::begin`] tells that a run is about to write, [`Ledger::capture`] writes down what happened since the last time.
//! In one environment captures happen one after the other; between servers, the number of the snapshot decides.

mod attribute;
mod capture;
mod error;
mod files;
mod fork;
mod ledger;
mod restore;
mod writers;

pub use error::Error;
pub use files::FileDiffs;
pub use history::{self, Options};
pub use ledger::Ledger;
pub use restore::{Extent, Reverted};
pub use writers::{Working, Writer};
