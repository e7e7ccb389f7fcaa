//! Taking a shell command apart, far enough to judge it.
//!
//! This is no shell. It finds the simple commands of a line whatever quotes, operators and substitutions they hide behind,
//! and says whether that is all there is to the line ([`Line::is_plain`]). What it is not sure of, it says so.

/// A line taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub commands: Vec<Simple>,
    /// Files that output goes to or input comes from.
    pub files: Vec<String>,
    /// Nothing but simple commands joined by `&&`, `||`, `;`, `|`, `&` and ends of lines: no substitution, no group, no
    /// redirection to or from a file.
    pub is_plain: bool,
    /// A quote is not closed, or it goes too deep.
    pub is_broken: bool,
}

/// A command with its arguments.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Simple {
    /// As it was written.
    pub text: String,
    /// Its words without quotes.
    pub words: Vec<String>,
}

/// How deep substitutions are followed.
const MAX_DEPTH: usize = 8;

/// Commands that are looked into, and words of one behind which others may stand.
const MAX_COMMANDS: usize = 500;
const MAX_WORDS: usize = 16;

/// Takes a command line apart.
pub(super) fn parse(line: &str) -> Line {
    let mut out = Line { is_plain: true, ..Line::default() };
    read(line, 0, &mut out);
    out
}

fn read(line: &str, depth: usize, out: &mut Line) {
    if depth > MAX_DEPTH {
        (out.is_plain, out.is_broken) = (false, true);
        return;
    }
    let mut reader = Reader {
        chars: line.chars().collect(),
        at: 0,
        depth,
        simple: Simple::default(),
        word: None,
        documents: Vec::new(),
        out,
    };
    reader.line();
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    simple: Simple,
    word: Option<String>,
    /// Here-documents whose text begins after this line: the word that ends each, and whether it is taken as it is.
    documents: Vec<(String, bool)>,
    out: &'a mut Line,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        self.simple.text.push(next);
        Some(next)
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            self.simple.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let mut simple = std::mem::take(&mut self.simple);
        simple.text = simple.text.trim_end_matches([';', '&', '|', '\n', '(', ')', '`']).trim().to_owned();
        if !simple.words.is_empty() {
            self.out.commands.push(simple);
        }
    }

    fn line(&mut self) {
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    // A line goes on.
                    Some('\n') => {}
                    Some(c) => self.push(c),
                    None => self.out.is_plain = false,
                },
                '\'' => self.single(),
                '"' => self.double(),
                '$' => self.dollar(),
                '`' => self.backticks(),
                ' ' | '\t' => self.end_word(),
                ';' | '&' | '|' => self.end_command(),
                '\n' => {
                    self.end_command();
                    self.skip_documents();
                }
                '#' if self.word.is_none() => {
                    self.out.is_plain = false;
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                '(' | ')' => {
                    self.out.is_plain = false;
                    self.end_command();
                }
                '>' | '<' => self.redirection(c),
                '\0' => self.out.is_plain = false,
                c => self.push(c),
            }
        }
        self.end_command();
    }

    fn single(&mut self) {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('\'') => return,
                Some(c) => self.push(c),
                None => return self.broken(),
            }
        }
    }

    fn double(&mut self) {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('"') => return,
                Some('\\') => match self.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => self.push(c),
                    Some('\n') => {}
                    Some(c) => {
                        self.push('\\');
                        self.push(c);
                    }
                    None => return self.broken(),
                },
                Some('$') => match self.peek() {
                    // Inside double quotes these two are no quotes.
                    Some('\'' | '"') => self.push('$'),
                    _ => self.dollar(),
                },
                Some('`') => self.backticks(),
                Some(c) => self.push(c),
                None => return self.broken(),
            }
        }
    }

    fn dollar(&mut self) {
        self.push('$');
        match self.peek() {
            Some('(') => {
                self.next();
                self.out.is_plain = false;
                let inner = self.until_closed('(', ')');
                read(&inner, self.depth + 1, self.out);
            }
            // May hold substitutions, and expansions that run what a variable holds.
            Some('{') => {
                self.next();
                self.out.is_plain = false;
                let inner = self.until_closed('{', '}');
                read(&inner, self.depth + 1, self.out);
            }
            // Quotes with escapes in them.
            Some('\'') => {
                self.next();
                self.out.is_plain = false;
                loop {
                    match self.next() {
                        Some('\'') => return,
                        Some('\\') => match self.next() {
                            Some(c) => self.push(c),
                            None => return self.broken(),
                        },
                        Some(c) => self.push(c),
                        None => return self.broken(),
                    }
                }
            }
            Some('"') => self.out.is_plain = false,
            _ => {}
        }
    }

    /// Reads up to the closing bracket of a substitution, past quotes and inner brackets.
    fn until_closed(&mut self, open: char, close: char) -> String {
        let mut inner = String::new();
        let mut depth = 1;
        let mut quote = None;
        while let Some(c) = self.next() {
            match (quote, c) {
                (_, '\\') if quote != Some('\'') => {
                    inner.push(c);
                    inner.extend(self.next());
                    continue;
                }
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                (None, c) if c == open => depth += 1,
                (None, c) if c == close => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return inner;
            }
            inner.push(c);
        }
        self.broken();
        inner
    }

    fn backticks(&mut self) {
        self.out.is_plain = false;
        self.push('`');
        let mut inner = String::new();
        loop {
            match self.next() {
                Some('`') => break,
                Some('\\') => inner.extend(self.next()),
                Some(c) => inner.push(c),
                None => {
                    self.broken();
                    break;
                }
            }
        }
        read(&inner, self.depth + 1, self.out);
    }

    fn redirection(&mut self, c: char) {
        // What stands before it is a number of a stream, not a word.
        if self.word.as_deref().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        let from = self.at;
        while matches!(self.peek(), Some('>' | '<' | '|' | '&')) {
            self.next();
        }
        let operator: String = self.chars[from..self.at].iter().collect();
        if self.peek() == Some('(') {
            // A process takes the file's place; its commands are read as those of a group.
            self.out.is_plain = false;
            return;
        }
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
        let from = self.at;
        let is_end = |c: char| c.is_ascii_whitespace() || ";&|<>()".contains(c);
        let mut quote = None;
        while let Some(c) = self.peek().filter(|c| quote.is_some() || !is_end(*c)) {
            match quote {
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if open == c => quote = None,
                _ => {}
            }
            self.next();
        }
        let written: String = self.chars[from..self.at].iter().collect();
        if c == '<' && operator.starts_with('<') {
            self.out.is_plain = false;
            if operator == "<" {
                let is_literal = written.contains(['\'', '"', '\\']);
                self.documents.push((written.trim_start_matches('-').replace(['\'', '"', '\\'], ""), is_literal));
            } else {
                self.out.is_broken |= written.contains(['$', '`']);
            }
            return;
        }
        let is_stream = c == '>' && operator == "&" && (written == "-" || written.bytes().all(|b| b.is_ascii_digit()));
        if is_stream && !written.is_empty() || c == '>' && written == "/dev/null" {
            return;
        }
        self.out.is_plain = false;
        // The target may hold substitutions of its own.
        let mut target = Line::default();
        read(&written, self.depth + 1, &mut target);
        self.out.is_broken |= target.is_broken;
        let mut commands = target.commands.into_iter();
        self.out.files.extend(commands.next_back().into_iter().flat_map(|simple| simple.words));
        self.out.commands.extend(commands);
    }

    fn skip_documents(&mut self) {
        for (end, is_literal) in std::mem::take(&mut self.documents) {
            loop {
                if self.at >= self.chars.len() {
                    return;
                }
                let rest = &self.chars[self.at..];
                let length = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
                let line: String = rest[..length].iter().collect();
                self.at = (self.at + length + 1).min(self.chars.len());
                if line.trim_start_matches('\t') == end {
                    break;
                }
                // Substitutions in the text are carried out, and not looked for here.
                self.out.is_broken |= !is_literal && (line.contains("$(") || line.contains('`'));
            }
        }
    }

    fn broken(&mut self) {
        (self.out.is_plain, self.out.is_broken) = (false, true);
    }
}

/// Gives the commands, and those that they run in turn: behind assignments, `sudo`, `xargs`, `sh -c` and the like.
pub(super) fn unwrap_all(commands: Vec<Simple>) -> Vec<Simple> {
    let mut all = commands;
    let mut at = 0;
    // What is found is shorter than what it is found in, so this ends; the cap is for lines made to take long.
    while at < all.len().min(MAX_COMMANDS) {
        let found = unwrap(&all[at]);
        all.extend(found);
        at += 1;
    }
    all
}

fn unwrap(command: &Simple) -> Vec<Simple> {
    let words = &command.words;
    let Some(first) = words.first() else { return Vec::new() };
    let from = |words: &[String]| Simple { text: words.join(" "), words: words.to_vec() };
    let is_assignment = first.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.trim_end_matches('+').bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    let name = first.rsplit('/').next().unwrap_or_default();
    match name {
        _ if is_assignment => vec![from(&words[1..])],
        // Where their own options end cannot be told without knowing them all, so each rest counts.
        "sudo" | "doas" | "env" | "xargs" | "timeout" | "nice" | "nohup" | "time" | "command" | "builtin" | "exec"
        | "setsid" | "stdbuf" | "ionice" | "chroot" | "unshare" | "busybox" | "watch" | "flock" | "strace" | "find"
        | "fd" | "parallel" => (1..words.len().min(MAX_WORDS)).map(|n| from(&words[n..])).collect(),
        "if" | "then" | "else" | "elif" | "while" | "until" | "do" | "!" | "{" => vec![from(&words[1..])],
        "sh" | "bash" | "dash" | "zsh" | "ash" | "ksh" | "eval" => {
            // `-c`, also among other letters as in `-lc`; of `eval`, all words make the line.
            let line = if name == "eval" {
                words[1..].join(" ")
            } else {
                let at = words.iter().position(|word| word.starts_with('-') && word.ends_with('c'));
                at.and_then(|at| words.get(at + 1)).cloned().unwrap_or_default()
            };
            parse(&line).commands
        }
        _ => Vec::new(),
    }
}

/// Tells whether it cannot be told what a command runs: its name is the value of something, or it is a shell that reads
/// its commands from elsewhere.
pub(super) fn is_opaque(command: &Simple) -> bool {
    let Some(first) = command.words.first() else { return false };
    let is_computed = |word: &str| word.contains(['$', '`', '*', '?', '[', '{']) && word.len() > 1;
    let name = first.rsplit('/').next().unwrap_or_default();
    match name {
        _ if is_computed(first) => true,
        "sh" | "bash" | "dash" | "zsh" | "ash" | "ksh" => {
            let code = command.words.iter().position(|word| word.starts_with('-') && word.ends_with('c'));
            match code {
                Some(at) => {
                    let line = parse(command.words.get(at + 1).map_or("", String::as_str));
                    line.is_broken || line.commands.is_empty()
                }
                // With a file, the file's content runs, as with any other program; without one, what comes in does.
                None => !command.words.iter().skip(1).any(|word| !word.starts_with('-')),
            }
        }
        "eval" => command.words.iter().skip(1).any(|word| is_computed(word)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
