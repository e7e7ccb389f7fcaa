//! The past of a workspace: snapshots of a directory, what lies between two of them, and the way back.
//!
//! A snapshot is the hash of a tree, as in git, and a change of ten files costs the reading of ten files. It is not git:
//! a workspace holds repositories, whose `.git` is part of what its user would lose; it holds empty directories, modes,
//! links and names that are no text; and it is written to, while we read, by programs that mean harm. So there is a store
//! of our own: file contents and directory listings by their BLAKE3 hash ([`Id`]), compressed into packs that are never
//! changed, and an index of what `stat` said when a file was last read.
//!
//! One store serves one environment. A fork gets hard links to the packs: nothing is copied, and either may be deleted.
//!
//! All calls block on the disk; whoever is asynchronous calls them on a thread for that. There is neither SQL nor HTTP in
//! here, and nobody's name: who changed what is a matter of rows.

mod content;
mod diff;
mod directory;
mod error;
mod fork;
mod gc;
mod graft;
mod history;
mod id;
mod index;
mod list;
mod objects;
mod options;
mod pack;
mod restore;
mod scan;
mod text;
mod tree;
mod update;

pub use content::Content;
pub use diff::{Change, ChangeKind};
pub use error::Error;
pub use gc::Collected;
pub use history::{History, Snapshot};
pub use id::{Id, InvalidId};
pub use list::{Listed, Listing};
pub use options::Options;
pub use restore::{Applied, Left, Restored, Scope};
pub use scan::Stats;
pub use text::FileDiff;
pub use tree::{Node, Why};
