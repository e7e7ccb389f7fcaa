//! Skills in a container: directories that the server writes and whoever works there can only read.
//!
//! They are mounted read-only, apart from the workspace, so they are in no snapshot and no download. A directory's name
//! tells its content (a skill's version is in it): what is there is right and is never written again. It is put in its
//! place as a whole, so nobody sees half of one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use domain::skill::SkillFile;
use uuid::Uuid;

use crate::{Error, Sandboxes, Spec, place::Place};

/// Where containers see them.
pub const SKILLS: &str = "/skills";

impl Sandboxes {
    /// Tells which of these skills' directories the container of `spec` does not have yet.
    pub async fn missing_skills(&self, spec: &Spec, names: Vec<String>) -> Result<Vec<String>, Error> {
        let root = self.inner.directories(&Place::of(spec)).skills;
        blocking(move || Ok(names.into_iter().filter(|name| !root.join(name).exists()).collect())).await
    }

    /// Puts the files of a skill into the directory `name` of [`SKILLS`] in the container of `spec`, which sees them at once.
    ///
    /// `name` is one part of a path, and the files' paths were checked.
    ///
    /// # Errors
    /// `DiskFull`.
    pub async fn put_skill(&self, spec: &Spec, name: &str, files: Vec<SkillFile>) -> Result<(), Error> {
        let root = self.inner.directories(&Place::of(spec)).skills;
        let name = name.to_owned();
        blocking(move || put(&root, &name, &files)).await
    }
}

fn put(root: &Path, name: &str, files: &[SkillFile]) -> io::Result<()> {
    let is_one_part = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    if !is_one_part || domain::skill::check_files(checked(files)).is_err() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a skill has a name that no file may have"));
    }
    // Beside its place: containers may see it, and nobody looks for it.
    let unfinished = root.join(format!(".{}", Uuid::new_v4().simple()));
    let written = write(&unfinished, files).and_then(|()| fs::rename(&unfinished, root.join(name)));
    if let Err(err) = written {
        let _ = fs::remove_dir_all(&unfinished);
        // Another run of the environment was faster with the same content.
        return if root.join(name).is_dir() { Ok(()) } else { Err(err) };
    }
    Ok(())
}

/// The text is a file like others here.
fn checked(files: &[SkillFile]) -> impl Iterator<Item = (&str, usize)> {
    files.iter().filter(|file| file.path != domain::skill::DOCUMENT_NAME).map(|file| (&*file.path, file.content.len()))
}

fn write(directory: &Path, files: &[SkillFile]) -> io::Result<()> {
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path);
    make(directory)?;
    for file in files {
        let path = directory.join(&file.path);
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        let mode = if file.is_executable { 0o755 } else { 0o644 };
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(&file.content)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(err)) if err.kind() == io::ErrorKind::StorageFull => Err(Error::DiskFull),
        Ok(Err(err)) => Err(Error::other("cannot write a skill for a container", err)),
        Err(err) => Err(Error::other("writing a skill was cut off", err)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(path: &str, content: &str, is_executable: bool) -> SkillFile {
        SkillFile { path: path.into(), content: content.into(), language: None, is_executable }
    }

    #[test]
    fn a_skill_is_there_as_a_whole_or_not_at_all() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "a-1", &[file("SKILL.md", "text", false), file("bin/run.sh", "x", true)]).expect("is written");
        assert_eq!(fs::read_to_string(root.join("a-1/SKILL.md")).expect("is there"), "text");
        let mode = fs::metadata(root.join("a-1/bin/run.sh")).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        // The same version again: it stays as it is.
        put(root, "a-1", &[file("SKILL.md", "text", false)]).expect("is there already");
        assert!(root.join("a-1/bin/run.sh").exists());
        for (name, path) in [("b", "../x"), ("b", "/x"), ("../b", "x"), (".b", "x"), ("", "x")] {
            put(root, name, &[file(path, "x", false)]).expect_err("is refused");
        }
        put(root, "b", &[file("x", "1", false), file("x/y", "2", false)]).expect_err("cannot be both");
        let names: Vec<_> = fs::read_dir(root).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
        assert_eq!(names, ["a-1"]);
    }
}
