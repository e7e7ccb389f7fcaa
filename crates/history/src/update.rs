//! A snapshot of a few paths, all else being as it was: what a single upload changed, whatever else goes on.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{FileType, fstat},
    io::Errno,
};

use crate::{
    Error,
    directory::{kind, mode, open_dir, stat},
    graft::Edits,
    index::Index,
    scan::{Scan, display},
    tree::{components, join},
};

/// Reads what stands at `path` now into `edits`. False: the path goes through a link, so what changed is elsewhere.
pub(crate) fn look(
    scan: &mut Scan<'_, '_>,
    root: &OwnedFd,
    path: &[u8],
    before: Option<&Index>,
    edits: &mut Edits,
) -> Result<bool, Error> {
    let names: Vec<&[u8]> = components(path).collect();
    let Some((last, above)) = names.split_last() else { return Ok(false) };
    let mut dir = root.try_clone().map_err(Error::at("the workspace"))?;
    let (mut modes, mut at, mut before) = (Vec::new(), Vec::new(), before);
    for name in above {
        at = join(&at, name);
        match stat(&dir, name) {
            Ok(found) if kind(&found) == FileType::Symlink => return Ok(false),
            Ok(_) | Err(_) => {}
        }
        dir = match open_dir(&dir, name) {
            Ok(below) => below,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                edits.set(path, &modes, None);
                return Ok(true);
            }
            Err(Errno::LOOP) => return Ok(false),
            Err(err) => return Err(Error::at(display(&at))(err)),
        };
        modes.push(fstat(&dir).ok().map(|found| mode(&found)));
        before = before.and_then(|before| before.directory(name));
    }
    if scan.options.passes_over(last) {
        return Ok(true);
    }
    let node = scan.entry(&dir, &at, last, above.len(), before, &mut Index::default())?;
    edits.set(path, &modes, node);
    Ok(true)
}
