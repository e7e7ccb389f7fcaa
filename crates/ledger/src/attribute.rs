//! Telling the changes of several writers apart.
//!
//! A file that only one of them says to write, or whose directory, is that one's. What nobody named is that one's who may write anything; if
//! several may, nobody can tell, and the change says so. What is left was done by none of them.

use std::collections::BTreeMap;

use domain::WorkspacePath;

use crate::Writer;

/// To whom a change belongs: indices of writers. None: to somebody outside. Several: it cannot be told.
pub(crate) type Owners = Vec<usize>;

/// Gives each of the paths to its owners. Groups come in the order of their owners, what is outside's first.
pub(crate) fn attribute(paths: &[String], writers: &[Writer]) -> Vec<(Owners, Vec<usize>)> {
    let broad: Owners = (0..writers.len()).filter(|n| writers[*n].may_write_all).collect();
    let mut groups: BTreeMap<Owners, Vec<usize>> = BTreeMap::new();
    for (at, path) in paths.iter().enumerate() {
        let path = WorkspacePath::parse(path).unwrap_or_default();
        let named: Owners = (0..writers.len()).filter(|n| is_named(&writers[*n], &path)).collect();
        let owners = if named.is_empty() { broad.clone() } else { named };
        groups.entry(owners).or_default().push(at);
    }
    groups.into_iter().collect()
}

fn is_named(writer: &Writer, path: &WorkspacePath) -> bool {
    if writer.named.is_empty() {
        return false;
    }
    let mut path = path.clone();
    while !path.is_root() {
        if writer.named.contains(&path) {
            return true;
        }
        path = path.parent();
    }
    false
}

#[cfg(test)]
mod tests {
    use domain::change::{Author, Source};

    use super::*;

    fn writer(named: &[&str], may_write_all: bool) -> Writer {
        let named = named.iter().map(|path| WorkspacePath::parse(path).expect("a path")).collect();
        Writer { author: Author { source: Source::Run, ..Author::OUTSIDE }, title: String::new(), named, may_write_all }
    }

    fn told(paths: &[&str], writers: &[Writer]) -> Vec<(Owners, Vec<usize>)> {
        attribute(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>(), writers)
    }

    #[test]
    fn each_writer_gets_what_it_named_and_the_rest_goes_to_whoever_may_write_all() {
        let named = || writer(&["/workspace/a", "src/b"], false);
        let shell = || writer(&[], true);
        assert_eq!(told(&["a", "x"], &[]), [(vec![], vec![0, 1])]);
        assert_eq!(told(&["a", "x"], &[named()]), [(vec![], vec![1]), (vec![0], vec![0])]);
        assert_eq!(told(&["a", "x"], &[shell()]), [(vec![0], vec![0, 1])]);
        assert_eq!(told(&["a", "x", "src/b"], &[shell(), named()]), [(vec![0], vec![1]), (vec![1], vec![0, 2])]);
        assert_eq!(told(&["src/b/c", "src/bc"], &[shell(), named()]), [(vec![0], vec![1]), (vec![1], vec![0])]);
        assert_eq!(told(&["a", "x"], &[shell(), shell()]), [(vec![0, 1], vec![0, 1])]);
        assert_eq!(told(&["a", "x"], &[named(), named()]), [(vec![], vec![1]), (vec![0, 1], vec![0])]);
    }
}
