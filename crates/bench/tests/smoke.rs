//! The bench still measures everything. What it measures is not asserted: that depends on the machine.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_figure_is_measured_once_in_a_quick_call() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_atelier-bench"))
        .args(["--quick", "--json"])
        .arg(&json)
        .output()
        .expect("the bench starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.iter().filter(|figure| figure["aim"].is_object()).count(), 21, "{report:#}");
    for figure in figures {
        assert!(figure["n"].as_u64().unwrap() > 0 && figure["p95"].as_f64().unwrap() > 0.0, "{figure}");
    }
    let table = String::from_utf8_lossy(&output.stdout);
    for figure in figures {
        assert!(table.contains(figure["figure"].as_str().unwrap()), "{table}");
    }
}
