//! A history and a workspace made of a snapshot of another.

use std::{fs, io, path::Path};

use crate::{Error, objects::Objects};

/// Gives `target` all packs that are open in `objects`. They are never changed, so both may use the same file.
pub(crate) fn share(objects: &Objects, target: &Path) -> Result<(), Error> {
    for pack in objects.packs() {
        let Some(name) = pack.path.file_name() else { continue };
        let link = target.join(name);
        match fs::hard_link(&pack.path, &link) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            // On another file system, or on one without links.
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) =>
            {
                fs::copy(&pack.path, &link).map_err(Error::at(link))?;
            }
            Err(err) => return Err(Error::at(link)(err)),
        }
    }
    Ok(())
}
