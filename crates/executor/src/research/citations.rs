//! Which citations of a report stand: those of pages that were read. No model decides it.
//!
//! A draft cites sources by their number (`[3]`) or by their address. Whatever names anything else is taken out, and so is
//! what nobody asked for and a reader's browser would act upon: pictures and HTML. Taking something out may join what was
//! apart to a new citation, so it is looked at again until nothing is taken out any more.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::LazyLock,
};

use domain::research::Source;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;

use crate::tools::web;

/// How many of those that were taken out are named, and the longest name, in characters.
const MAX_DROPPED: usize = 50;
const MAX_NAME_CHARS: usize = 300;

/// How often a draft is looked at again. Each time there is less in it.
const MAX_PASSES: usize = 20;

/// Numbers in brackets, and addresses that stand there as they are.
static MARKS: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"\^?\d{1,4}";
    let pattern = format!(r#"(?i)\[\s*{number}(?:\s*[,;–-]\s*{number})*\s*\]|(?:https?://|www\.)[^\s<>"|]+"#);
    Regex::new(&pattern).expect("the pattern is a literal, and a test uses it")
});

/// A draft of which only citations are left that stand.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Checked {
    pub text: String,
    /// The numbers of the sources that it cites.
    pub cited: BTreeSet<i32>,
    /// What was taken out: addresses or numbers.
    pub dropped: Vec<String>,
}

/// Takes out of a draft whatever cites something that is not among the sources.
pub(crate) fn check(draft: &str, sources: &[Source]) -> Checked {
    let known = Known::new(sources);
    let mut checked = Checked { text: draft.to_owned(), ..Checked::default() };
    for _ in 0..MAX_PASSES {
        let pass = Pass::over(&checked.text, &known);
        for name in pass.dropped {
            let name: String = name.chars().take(MAX_NAME_CHARS).collect();
            if checked.dropped.len() < MAX_DROPPED && !checked.dropped.contains(&name) {
                checked.dropped.push(name);
            }
        }
        checked.cited = pass.cited;
        let text = apply(&checked.text, pass.edits);
        if text == checked.text {
            return checked;
        }
        checked.text = text;
    }
    // Something made to come back again and again: as a block of code it cites nothing.
    let indented: String = checked.text.lines().map(|line| format!("    {line}\n")).collect();
    Checked { text: indented, cited: BTreeSet::new(), ..checked }
}

/// The sources by number and by address.
struct Known<'a> {
    numbers: BTreeSet<i32>,
    addresses: HashMap<String, &'a Source>,
}

impl<'a> Known<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let addresses = sources.iter().flat_map(|source| {
            std::iter::once(&source.url).chain(&source.requested).map(move |address| (address.clone(), source))
        });
        Self { numbers: sources.iter().map(|source| source.number).collect(), addresses: addresses.collect() }
    }

    fn find(&self, address: &str) -> Option<&'a Source> {
        let is_short = address.get(..4).is_some_and(|www| www.eq_ignore_ascii_case("www."));
        let whole = if is_short { format!("https://{address}") } else { address.to_owned() };
        self.addresses.get(&web::normal(&whole)?).copied()
    }
}

/// What one look at a text found.
#[derive(Default)]
struct Pass {
    edits: Vec<(Range<usize>, String)>,
    cited: BTreeSet<i32>,
    dropped: Vec<String>,
}

/// A link or picture that is being read.
struct Link {
    range: Range<usize>,
    address: String,
    is_picture: bool,
    label: String,
    /// Links and pictures that are open, itself included.
    depth: usize,
}

impl Pass {
    fn over(text: &str, known: &Known<'_>) -> Self {
        let mut pass = Self::default();
        let events = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).into_offset_iter();
        for (_, definition) in events.reference_definitions().iter() {
            // Links that use it are written out.
            pass.edits.push((definition.span.clone(), String::new()));
            if known.find(&definition.dest).is_none() {
                pass.dropped.push(definition.dest.to_string());
            }
        }
        let (mut link, mut plain, mut is_code) = (None::<Link>, 0..0, false);
        for (event, range) in events {
            match (&mut link, event) {
                (Some(link), Event::Start(Tag::Link { .. } | Tag::Image { .. })) => link.depth += 1,
                (None, Event::Start(Tag::Link { dest_url, .. })) => link = Some(Link::new(range, &dest_url, false)),
                (None, Event::Start(Tag::Image { dest_url, .. })) => link = Some(Link::new(range, &dest_url, true)),
                (Some(open), Event::End(TagEnd::Link | TagEnd::Image)) => {
                    open.depth -= 1;
                    if open.depth == 0
                        && let Some(link) = link.take()
                    {
                        pass.link(text, link, known);
                    }
                }
                (Some(link), Event::Text(words) | Event::Code(words)) => link.label.push_str(&words),
                (Some(link), Event::SoftBreak | Event::HardBreak) => link.label.push(' '),
                (None, Event::Start(Tag::CodeBlock(_))) => is_code = true,
                (None, Event::End(TagEnd::CodeBlock)) => is_code = false,
                (None, Event::Html(_) | Event::InlineHtml(_)) => pass.edits.push((range, String::new())),
                (None, Event::Text(_)) if !is_code => {
                    // Brackets end a piece of text, but not the words around them.
                    if range.start != plain.end {
                        pass.marks(text, std::mem::take(&mut plain), known);
                        plain.start = range.start;
                    }
                    plain.end = range.end;
                }
                _ => {}
            }
        }
        pass.marks(text, plain, known);
        pass
    }

    fn link(&mut self, text: &str, link: Link, known: &Known<'_>) {
        let label = escape(link.label.trim());
        let source = known.find(&link.address).filter(|_| !link.is_picture);
        let new = match source {
            Some(source) => {
                self.cited.insert(source.number);
                // `[3]` with an address behind it.
                let label = if label.is_empty() { source.number.to_string() } else { label };
                format!("[{label}](<{}>)", source.url)
            }
            // Within the report.
            None if link.address.starts_with('#') && !link.is_picture => return,
            None => {
                if !link.address.is_empty() {
                    self.dropped.push(link.address);
                }
                label
            }
        };
        if text.get(link.range.clone()) != Some(new.as_str()) {
            self.edits.push((link.range, new));
        }
    }

    /// Looks for numbers and addresses in words.
    fn marks(&mut self, text: &str, range: Range<usize>, known: &Known<'_>) {
        let Some(words) = text.get(range.clone()) else { return };
        for mark in MARKS.find_iter(words) {
            let at = |from: usize, to: usize| range.start + from..range.start + to;
            if mark.as_str().starts_with('[') {
                let numbers = numbers(mark.as_str());
                let (kept, dropped): (Vec<i32>, Vec<i32>) =
                    numbers.into_iter().partition(|number| known.numbers.contains(number));
                self.cited.extend(&kept);
                if dropped.is_empty() {
                    continue;
                }
                self.dropped.extend(dropped.iter().map(|number| format!("[{number}]")));
                let kept: Vec<_> = kept.iter().map(i32::to_string).collect();
                let new = if kept.is_empty() { String::new() } else { format!("[{}]", kept.join(", ")) };
                self.edits.push((at(mark.start(), mark.end()), new));
                continue;
            }
            // What ends a sentence is no part of an address, as a rule.
            let mut address = mark.as_str();
            let end = |c: char| ".,;:!?)]}'*_".contains(c);
            while known.find(address).is_none() && address.ends_with(end) {
                address = &address[..address.len() - 1];
            }
            match known.find(address) {
                Some(source) => {
                    self.cited.insert(source.number);
                }
                None => {
                    self.dropped.push(address.to_owned());
                    self.edits.push((at(mark.start(), mark.start() + address.len()), "(not read)".to_owned()));
                }
            }
        }
    }
}

impl Link {
    fn new(range: Range<usize>, address: &str, is_picture: bool) -> Self {
        Self { range, address: address.to_owned(), is_picture, label: String::new(), depth: 1 }
    }
}

/// Gives the numbers of `[1, 3-5]`.
fn numbers(mark: &str) -> BTreeSet<i32> {
    let mut numbers = BTreeSet::new();
    for part in mark.trim_matches(['[', ']']).split([',', ';']) {
        let mut ends =
            part.split(['-', '–']).filter_map(|number| number.trim().trim_start_matches('^').parse::<i32>().ok());
        let Some(first) = ends.next() else { continue };
        let last = ends.next_back().unwrap_or(first);
        numbers.extend(first.min(last)..=last.max(first));
    }
    numbers
}

/// Writes words so that Markdown takes them for nothing else.
pub(super) fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '[' | ']' | '`' | '*' | '_' | '<' | '>' | '&' | '~' | '|' | '!' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Puts new pieces into a text. Of two that overlap the first is taken; the other is found again by the next look.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let (mut new, mut from) = (String::with_capacity(text.len()), 0);
    for (range, piece) in edits {
        let Some(before) = text.get(from..range.start).filter(|_| range.start >= from) else { continue };
        new.push_str(before);
        new.push_str(&piece);
        from = range.end;
    }
    new.push_str(&text[from..]);
    new
}

#[cfg(test)]
mod tests;
