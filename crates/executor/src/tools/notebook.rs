//! Jupyter notebooks as text: their cells in order, with what running them gave.

use serde::Deserialize;

use super::text;

/// Larger notebooks are read as the text they are.
pub(super) const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The most shown of one output, in characters.
const MAX_OUTPUT_CHARS: usize = 10_000;

#[derive(Deserialize)]
struct Notebook {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    id: Option<String>,
    cell_type: String,
    #[serde(default)]
    source: Lines,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    text: Lines,
    #[serde(default)]
    data: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    ename: String,
    #[serde(default)]
    evalue: String,
}

/// The format has both: a text, or its lines.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    One(String),
    Many(Vec<String>),
}

impl Default for Lines {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl Lines {
    fn join(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(lines) => lines.concat(),
        }
    }
}

/// Gives the notebook as text, `None` if it is none.
pub(super) fn render(bytes: &[u8]) -> Option<String> {
    if bytes.len() as u64 > MAX_BYTES {
        return None;
    }
    let notebook: Notebook = serde_json::from_slice(bytes).ok()?;
    let mut out = String::new();
    for (index, cell) in notebook.cells.iter().enumerate() {
        let id = cell.id.clone().unwrap_or_else(|| format!("cell-{index}"));
        out.push_str(&format!("<cell id=\"{id}\" type=\"{}\">\n{}\n</cell>\n", cell.cell_type, cell.source.join()));
        for output in &cell.outputs {
            let shown = output.render();
            if !shown.trim().is_empty() {
                out.push_str(&format!("<output>\n{}\n</output>\n", text::shorten(shown.trim_end(), MAX_OUTPUT_CHARS)));
            }
        }
    }
    Some(if out.is_empty() { "[The notebook has no cells.]".to_owned() } else { out })
}

impl Output {
    fn render(&self) -> String {
        let plain = self.data.get("text/plain").and_then(|text| Lines::deserialize(text).ok());
        let mut text = self.text.join() + &plain.unwrap_or_default().join();
        if !self.ename.is_empty() {
            text.push_str(&format!("{}: {}", self.ename, self.evalue));
        }
        for kind in self.data.keys().filter(|kind| kind.starts_with("image/")) {
            text.push_str(&format!("\n[{kind}, not shown]"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_becomes_its_cells_and_outputs() {
        let json = br#"{"cells":[
            {"cell_type":"markdown","id":"a1","source":["Title\n","text"]},
            {"cell_type":"code","source":"print(1)","outputs":[
                {"output_type":"stream","text":["1\n"]},
                {"output_type":"display_data","data":{"text/plain":["<Figure>"],"image/png":"AAAA"}},
                {"output_type":"error","ename":"ValueError","evalue":"no","traceback":[]}]}],
            "metadata":{},"nbformat":4}"#;
        let expected = "<cell id=\"a1\" type=\"markdown\">\nTitle\ntext\n</cell>\n\
                        <cell id=\"cell-1\" type=\"code\">\nprint(1)\n</cell>\n\
                        <output>\n1\n</output>\n<output>\n<Figure>\n[image/png, not shown]\n</output>\n\
                        <output>\nValueError: no\n</output>\n";
        assert_eq!(render(json).as_deref(), Some(expected));
        assert_eq!(render(b"{}"), None);
        assert_eq!(render(b"not json"), None);
    }
}
