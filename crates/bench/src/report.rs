//! The figures as a table for people and as JSON for programs.

use serde::Serialize;
use serde_json::json;

use crate::{machine::Machine, samples::Samples};

/// Everything that was measured.
pub(crate) struct Report {
    machine: Machine,
    is_quick: bool,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    figure: String,
    unit: &'static str,
    n: usize,
    median: f64,
    p95: f64,
    /// What it is to be compared with, measured in the same call.
    baseline: Option<Value>,
    /// What we want.
    aim: Option<Aim>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Value {
    pub what: String,
    pub value: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Aim {
    /// The rule.
    pub what: &'static str,
    /// What it comes to here.
    pub value: f64,
    is_met: bool,
}

/// Whether less or more is better.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    pub(crate) fn new(machine: Machine, is_quick: bool) -> Self {
        Self { machine, is_quick, rows: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(
        &mut self,
        figure: impl Into<String>,
        unit: &'static str,
        samples: &Samples,
        baseline: Option<(&str, f64)>,
        aim: Option<(&'static str, Bound)>,
    ) {
        let median = samples.median();
        let aim = aim.map(|(what, bound)| match bound {
            Bound::AtMost(value) => Aim { what, value, is_met: median <= value },
            Bound::AtLeast(value) => Aim { what, value, is_met: median >= value },
        });
        let row = Row {
            figure: figure.into(),
            unit,
            n: samples.count(),
            median,
            p95: samples.p95(),
            baseline: baseline.map(|(what, value)| Value { what: what.to_owned(), value }),
            aim,
        };
        eprintln!("  {}: {:.2} {}", row.figure, row.median, row.unit);
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        let Machine { cores, cpu, kernel, load_before } = &self.machine;
        println!("{cores} cores, {cpu}, Linux {kernel}, load before {load_before}");
        if self.is_quick || cfg!(debug_assertions) {
            println!("Few samples or a debug build: these numbers say nothing about speed.");
        }
        println!();
        let head = ["", "unit", "n", "median", "p95", "baseline", "", "ratio", "aim", ""].map(str::to_owned);
        let rows: Vec<[String; 10]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let mut widths = [0; 10];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in rows {
            let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| match at {
                // Names and rules to the left, numbers to the right.
                0 | 1 | 6 | 9 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let report = json!({
            "machine": self.machine,
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "quick": self.is_quick,
            "figures": self.rows,
        });
        format!("{report:#}\n")
    }
}

impl Row {
    fn cells(&self) -> [String; 10] {
        let (value, what, ratio) = match &self.baseline {
            Some(baseline) if baseline.value > 0.0 => {
                (number(baseline.value), baseline.what.clone(), format!("{:.2}", self.median / baseline.value))
            }
            Some(_) | None => Default::default(),
        };
        let (aim, rule) = match &self.aim {
            Some(aim) => (number(aim.value), format!("{} {}", if aim.is_met { "met:" } else { "missed:" }, aim.what)),
            None => Default::default(),
        };
        let name = self.figure.clone();
        let counted = self.n.to_string();
        [name, self.unit.to_owned(), counted, number(self.median), number(self.p95), value, what, ratio, aim, rule]
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
