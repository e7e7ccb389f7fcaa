//! Real MCP servers, from the public registries: fetched once, kept beside what was built.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const NODE: [&str; 3] = [
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
];
const PYTHON: [&str; 2] = ["mcp-server-fetch==2026.10.24", "mcp-server-git==2026.10.19"];
const PYTHON_SDK: [&str; 1] = ["mcp==2.3.0"];

const PIP: [&str; 6] = ["install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target", "site"];

/// Gives a directory with the servers: `node_modules` and `site`, for the Node.js and the Python of the workspace image.
/// `None`, said aloud, when no registry answers.
pub fn mcp_servers() -> Option<PathBuf> {
    let npm = ["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", "."];
    // For the interpreter of the image, whatever this host has.
    let image = ["--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:"];
    fetch("mcp-servers", &[&NODE[..], &PYTHON[..]].concat(), |root| {
        run(root, "npm", &[&npm[..], &NODE].concat()) && run(root, "pip3", &[&PIP[..], &image, &PYTHON].concat())
    })
}

/// Gives a directory with `site`: what servers are written with, for the Python of this host. `None`, said aloud, when no
/// registry answers.
pub fn mcp_python_sdk() -> Option<PathBuf> {
    fetch("mcp-python-sdk", &PYTHON_SDK, |root| run(root, "pip3", &[&PIP[..], &PYTHON_SDK].concat()))
}

fn fetch(name: &str, wanted: &[&str], install: impl FnOnce(&Path) -> bool) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(name);
    fs::create_dir_all(&root).expect("makes a directory");
    let done = root.join("installed");
    let wanted = wanted.join(" ");
    // One test fetches them, the others wait.
    let lock = File::create(root.join("lock")).expect("makes a file");
    lock.lock().expect("locks");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Some(root);
    }
    if !install(&root) {
        println!("skipped: no registry gives the MCP servers that this test is about");
        return None;
    }
    fs::write(&done, wanted).expect("writes");
    Some(root)
}

/// Runs an installer, which may try a registry that cannot be reached for hours.
fn run(directory: &Path, program: &str, arguments: &[&str]) -> bool {
    let output = Command::new("timeout").args(["240", program]).args(arguments).current_dir(directory).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("{program}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(err) => {
            println!("{program}: {err}");
            false
        }
    }
}
