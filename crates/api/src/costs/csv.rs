//! Costs as comma-separated values (RFC 4180), for spreadsheets.

use store::costs::Sums;

/// Lines that end with the same figures.
pub(super) struct Table(String);

const FIGURES: &str = "runs,calls,input_tokens,output_tokens,cache_read_tokens,cache_write_tokens,cost_usd";

impl Table {
    /// Begins with the names of the columns that come before the figures.
    pub(super) fn new(columns: &[&str]) -> Self {
        Self(format!("{},{FIGURES}\r\n", columns.join(",")))
    }

    pub(super) fn add(&mut self, cells: &[&str], sums: &Sums) {
        for cell in cells {
            self.0.push_str(&quoted(cell));
            self.0.push(',');
        }
        let Sums { spent, calls, runs, .. } = sums;
        let (input, output, read, write) =
            (spent.input_tokens, spent.output_tokens, spent.cache_read_tokens, spent.cache_write_tokens);
        let (dollars, micros) = (spent.cost.0 / 1_000_000, spent.cost.0 % 1_000_000);
        self.0.push_str(&format!("{runs},{calls},{input},{output},{read},{write},{dollars}.{micros:06}\r\n"));
    }

    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

/// A cell of text. Spreadsheets take one that begins with `=` and the like for a formula, and names come from anybody.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use domain::{MicroUsd, run::Spent};

    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_no_formula_gets_through() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"\n", "\"say \"\"x\"\"\n\""),
            ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
            ("", ""),
        ] {
            assert_eq!(quoted(text), cell);
        }
    }

    #[test]
    fn money_is_exact() {
        let spent = Spent { input_tokens: 1, output_tokens: 2, cost: MicroUsd(1_000_001), ..Spent::default() };
        let mut table = Table::new(&["id"]);
        table.add(&["x"], &Sums { spent, calls: 3, threads: 1, runs: 1 });
        assert_eq!(table.take(), format!("id,{FIGURES}\r\nx,1,3,1,2,0,0,1.000001\r\n"));
    }
}
