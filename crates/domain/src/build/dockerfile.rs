//! Checking lines that somebody wants in an environment's Dockerfile.
//!
//! They run as root in a container of the build, which is what they are for. What is refused is what would reach past that
//! container: an image of somebody else's (`FROM`, `COPY --from`), an address as the engine sees it (`ADD` of a URL is
//! fetched by the engine itself, from the host's network), a mount. There are no files beside the Dockerfile, so
//! `COPY` and `ADD` have nothing else to copy.

/// The longest line that engines read.
pub const MAX_LINE_BYTES: usize = 60_000;

/// What was found in lines of a Dockerfile. Each text begins with the line it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// With one of these it cannot be built.
    pub errors: Vec<String>,
    /// It can be built, and something will not be as it looks.
    pub warnings: Vec<String>,
}

/// Checks lines that are added to a Dockerfile.
pub fn check(text: &str) -> Checked {
    let mut checked = Checked::default();
    // Engines and we must see the same lines and words: what one takes for a blank or for a line's end, so must the other.
    let odd =
        |(_, line): &(usize, &str)| line.chars().any(|c| (c.is_whitespace() || c.is_control()) && !" \t".contains(c));
    if let Some((index, _)) = text.lines().enumerate().find(odd) {
        checked.errors.push(format!("line {}: it holds a control character or an unusual blank", index + 1));
        return checked;
    }
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let number = index + 1;
        let Some(mut instruction) = content(first) else { continue };
        // A line that ends in a backslash goes on in the next; comments and empty lines in between do not count.
        while let Some(part) = instruction.strip_suffix('\\') {
            let Some((_, next)) = lines.next() else {
                checked.errors.push(format!("line {number}: the last line must not end with a backslash"));
                return checked;
            };
            let part = part.trim_end().to_owned();
            instruction = match content(next) {
                Some(next) => format!("{part} {next}"),
                None => format!("{part} \\"),
            };
        }
        check_instruction(number, &instruction, &mut checked);
    }
    checked
}

/// Gives a line without what is around it; nothing if it is empty or a comment.
fn content(line: &str) -> Option<String> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#')).then(|| line.to_owned())
}

fn check_instruction(number: usize, instruction: &str, checked: &mut Checked) {
    let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let mut refuse = |why: String| checked.errors.push(format!("line {number}: {why}"));
    match word.as_str() {
        "FROM" => return refuse("FROM is not allowed here; name another image with baseImage".to_owned()),
        "COPY" | "ADD" => {
            return refuse(format!(
                "{word} is not allowed here: there are no files beside the Dockerfile; fetch them with RUN"
            ));
        }
        "ONBUILD" | "MAINTAINER" => return refuse(format!("{word} is not allowed here")),
        "RUN" | "ENV" | "ARG" | "LABEL" | "USER" | "WORKDIR" | "SHELL" | "CMD" | "ENTRYPOINT" | "EXPOSE"
        | "HEALTHCHECK" | "STOPSIGNAL" | "VOLUME" => {}
        _ => {
            let shown: String = word.chars().take(40).collect();
            return refuse(format!("'{shown}' is no instruction of a Dockerfile"));
        }
    }
    if rest.is_empty() {
        return refuse(format!("{word} needs an argument"));
    }
    if instruction.len() > MAX_LINE_BYTES {
        return refuse(format!("an instruction must have at most {MAX_LINE_BYTES} bytes"));
    }
    match word.as_str() {
        "RUN" if rest.starts_with("--") => refuse("RUN takes no options here".to_owned()),
        "RUN" if rest.contains("<<") && !rest.contains("<<<") && is_here_document(rest) => {
            refuse("a here-document is not possible; join the lines with '&& \\' or use setupScripts".to_owned());
        }
        "SHELL" if !is_json_words(rest) => {
            refuse("SHELL needs an array, for example [\"/bin/bash\", \"-c\"]".to_owned())
        }
        "LABEL" if rest.to_ascii_lowercase().contains("atelier.") => {
            refuse("labels that begin with 'atelier.' are the server's own".to_owned());
        }
        "ENV" if !rest.contains('=') && !rest.contains(char::is_whitespace) => {
            refuse("ENV needs a name and a value, for example A=1".to_owned());
        }
        "CMD" | "ENTRYPOINT" | "EXPOSE" | "HEALTHCHECK" | "STOPSIGNAL" | "WORKDIR" | "USER" => {
            let effect = if matches!(word.as_str(), "WORKDIR" | "USER") { "after the build" } else { "" };
            let warning = format!("line {number}: {word} has no effect {effect}");
            checked.warnings.push(format!("{}: the server decides that for its containers", warning.trim_end()));
        }
        "VOLUME" => checked.warnings.push(format!(
            "line {number}: what is in a VOLUME goes with the container; only /workspace and the home directory stay"
        )),
        _ => {}
    }
}

/// Tells whether a shell would read the following lines as a document: `<<EOF`, `<<-'EOF'`.
fn is_here_document(command: &str) -> bool {
    command.split("<<").skip(1).any(|after| {
        let word = after.trim_start_matches('-').trim_start_matches(['\'', '"']);
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

fn is_json_words(text: &str) -> bool {
    serde_json::from_str::<Vec<String>>(text).is_ok_and(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_past_the_build_is_refused_and_what_has_no_effect_is_told() {
        let text = "# A comment\n\
            RUN apt-get update \\\n    # in between\n\n  && apt-get install -y cowsay\n\
            env A=1\n\
            FROM scratch\n\
            COPY --from=postgres:17 / /x\n\
            add http://169.254.169.254/latest /x\n\
            RUN --mount=type=bind,from=x true\n\
            INSTALL jq\n\
            RUN\n\
            SHELL /bin/bash\n\
            RUN cat <<EOF\n\
            CMD [\"x\"]\n\
            USER nobody\n\
            VOLUME /data\n\
            LABEL Atelier.installation=other\n\
            RUN grep x <<< \"$y\"\n\
            RUN echo last \\";
        insta::assert_debug_snapshot!(check(text));
    }

    #[test]
    fn no_line_is_hidden_behind_what_engines_do_not_take_for_a_blank() {
        for hidden in [
            "RUN true \\\u{a0}\nFROM scratch",
            "RUN true \\\r\r\nFROM scratch",
            "RUN true \\\u{b}\nFROM x",
            "FROM\u{c}x",
        ] {
            assert_eq!(check(hidden).errors.len(), 1, "{hidden:?}");
        }
        assert_eq!(check("RUN true \\\r\n && true\r\n"), Checked::default());
    }

    #[test]
    fn good_lines_have_nothing_to_be_told() {
        for good in [
            "",
            "\n\n",
            "# only a comment",
            "RUN true",
            "  run true && \\\n true",
            "ENV A 1",
            "ARG A",
            "SHELL [\"/bin/bash\", \"-c\"]",
        ] {
            assert_eq!(check(good), Checked::default(), "{good}");
        }
    }
}
