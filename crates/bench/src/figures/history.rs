//! What the past of a workspace costs, beside git and `cp`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, ensure};
use history::{History, Options};

use super::Bench;
use crate::{report::Bound::AtMost, samples::Samples};

const DIRECTORIES: usize = 100;
const FILES_EACH: usize = 50;
const CHANGED: usize = 10;

impl Bench<'_> {
    pub(super) fn history(&mut self) -> anyhow::Result<()> {
        let (mut snapshot, mut git, mut diff) = (Samples::default(), Samples::default(), Samples::default());
        let (mut git_diff, mut fork, mut copy) = (Samples::default(), Samples::default(), Samples::default());
        let dir = tempfile::Builder::new().prefix("atelier-bench-").tempdir()?;
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        for workspace in [&ours, &theirs] {
            make_files(workspace)?;
        }
        run(&theirs, "git", &["init", "-q"])?;
        commit(&theirs)?;
        let past = History::open(dir.path().join("history"), Options::default())?;
        let mut last = past.snapshot(&ours)?.id;
        for n in 0..self.count(20) {
            for workspace in [&ours, &theirs] {
                for file in 0..CHANGED {
                    let path = workspace.join(format!("d{}/f{}", (n * 7 + file * 9) % DIRECTORIES, file));
                    fs::write(path, content(1_000_000 + n * 1000 + file))?;
                }
            }
            let next = took(&mut snapshot, || Ok(past.snapshot(&ours)?.id))?;
            took(&mut git, || commit(&theirs))?;
            let texts = took(&mut diff, || Ok(past.texts(&past.diff(Some(&last), &next)?)?))?;
            ensure!(texts.len() == CHANGED, "{} files changed", texts.len());
            took(&mut git_diff, || run(&theirs, "git", &["diff", "HEAD~1", "HEAD"]))?;
            last = next;
        }
        for n in 0..self.count(8) {
            let target = dir.path().join(format!("fork-{n}"));
            fs::create_dir(&target)?;
            took(&mut fork, || Ok(past.fork(&last, dir.path().join(format!("history-{n}")), &target)?))?;
            let copied = dir.path().join(format!("copy-{n}"));
            took(&mut copy, || run(dir.path(), "cp", &["-a", "ours", &copied.to_string_lossy()]))?;
        }
        let files = DIRECTORIES * FILES_EACH;
        let baseline = Some(("git add + commit", git.median()));
        self.report.add(
            format!("snapshot, {CHANGED} of {files} files changed"),
            "ms",
            &snapshot,
            baseline,
            Some(("150", AtMost(150.0))),
        );
        let baseline = Some(("git diff", git_diff.median()));
        self.report.add("diff of that, as text", "ms", &diff, baseline, Some(("50", AtMost(50.0))));
        let baseline = Some(("cp -a", copy.median()));
        self.report.add(format!("fork of {files} files"), "ms", &fork, baseline, Some(("1,000", AtMost(1000.0))));
        Ok(())
    }
}

fn took<T>(samples: &mut Samples, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began_at = Instant::now();
    let done = work()?;
    samples.took(began_at.elapsed());
    Ok(done)
}

fn make_files(root: &Path) -> anyhow::Result<()> {
    for directory in 0..DIRECTORIES {
        let path: PathBuf = root.join(format!("d{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..FILES_EACH {
            fs::write(path.join(format!("f{file}")), content(directory * FILES_EACH + file))?;
        }
    }
    Ok(())
}

/// Some 5 kB that look like code.
fn content(seed: usize) -> String {
    (0..100).map(|line| format!("let value_{line} = compute({seed}, {}); // line\n", line * seed % 977)).collect()
}

fn commit(repository: &Path) -> anyhow::Result<()> {
    run(repository, "git", &["add", "-A"])?;
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "x"];
    run(repository, "git", &who)
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = std::process::Command::new(program).args(arguments).current_dir(dir).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
