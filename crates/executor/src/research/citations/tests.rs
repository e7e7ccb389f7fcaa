use chrono::DateTime;
use proptest::prelude::*;

use super::*;

fn source(number: i32, url: &str) -> Source {
    Source {
        number,
        url: url.into(),
        requested: vec![format!("{url}?from=search")],
        title: None,
        hash: String::new(),
        fetched_at: DateTime::UNIX_EPOCH,
        is_cited: false,
    }
}

fn sources() -> Vec<Source> {
    vec![source(1, "https://a.example/one"), source(2, "https://b.example/two_(2)"), source(3, "http://127.0.0.1:80/x")]
}

#[test]
fn what_names_a_page_that_was_not_read_is_taken_out() {
    for (draft, expected, dropped) in [
        ("Yes [1][2], no.", "Yes [1][2], no.", vec![]),
        ("Yes [1, 7].", "Yes [1].", vec!["[7]"]),
        ("Yes [9].", "Yes .", vec!["[9]"]),
        ("Yes [1-3].", "Yes [1-3].", vec![]),
        ("Yes [2-4].", "Yes [2, 3].", vec!["[4]"]),
        ("Yes [^8].", "Yes .", vec!["[8]"]),
        ("[One](https://a.example/one)", "[One](<https://a.example/one>)", vec![]),
        ("[One](https://a.example/one?from=search#p)", "[One](<https://a.example/one>)", vec![]),
        ("[One](http://a.example/one)", "[One](<https://a.example/one>)", vec![]),
        ("[Evil](https://evil.example/)", "Evil", vec!["https://evil.example/"]),
        ("[Evil](https://a.example/one/../two)", "Evil", vec!["https://a.example/one/../two"]),
        ("[Evil](javascript:alert(1))", "Evil", vec!["javascript:alert(1)"]),
        ("[Evil](/workspace/x)", "Evil", vec!["/workspace/x"]),
        ("[In it](#below)", "[In it](#below)", vec![]),
        ("<https://evil.example/>", "(not read)", vec!["https://evil.example/"]),
        ("See https://evil.example/x?y=1.", "See (not read).", vec!["https://evil.example/x?y=1"]),
        ("See www.evil.example now", "See (not read) now", vec!["www.evil.example"]),
        ("See https://b.example/two_(2).", "See https://b.example/two_(2).", vec![]),
        ("![x](https://a.example/one)", "x", vec!["https://a.example/one"]),
        ("![x](https://evil.example/?q=secret)", "x", vec!["https://evil.example/?q=secret"]),
        ("[![x](https://evil.example/p)](https://a.example/one)", "[x](<https://a.example/one>)", vec![]),
        ("a<img src=https://evil.example/>b", "ab", vec![]),
        ("[E][e]\n\n[e]: https://evil.example/", "E\n\n", vec!["https://evil.example/"]),
        ("[A][a]\n\n[a]: https://a.example/one", "[A](<https://a.example/one>)\n\n", vec![]),
        ("`[9] https://evil.example/`", "`[9] https://evil.example/`", vec![]),
        // Taking out what is between makes a citation of what was none.
        ("[<b>9</b>]", "", vec!["[9]"]),
        ("htt<b></b>ps://evil.example/", "(not read)", vec!["https://evil.example/"]),
    ] {
        let checked = check(draft, &sources());
        assert_eq!(
            (checked.text.as_str(), checked.dropped),
            (expected, dropped.into_iter().map(str::to_owned).collect()),
            "{draft}"
        );
    }
}

#[test]
fn it_is_known_what_is_cited() {
    let checked = check("[1], https://b.example/two_(2), `[3]` and [x](https://evil.example/)", &sources());
    assert_eq!(checked.cited, BTreeSet::from([1, 2]));
}

proptest! {
    #[test]
    fn nothing_that_was_not_read_is_left_whatever_the_draft(
        parts in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "(", ")", "<", ">", "!", "[9]", "[1]", "https://evil.example/", "https://a.example/one", "<b>", "\n",
            "\n\n", "[x]: ", "\\", "`", "*", " ", "www.", "a", "&amp;", "9", "|", "    ", "- ", "\"",
        ]), 0..24)
    ) {
        let checked = check(&parts.concat(), &sources());
        let again = check(&checked.text, &sources());
        prop_assert_eq!(&again.dropped, &Vec::<String>::new());
        let html: Vec<_> = Parser::new_ext(&checked.text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
            .filter_map(|event| match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
                Event::Html(html) | Event::InlineHtml(html) => Some(html.to_string()),
                _ => None,
            })
            .filter(|address| address.contains("evil") || address.contains('<'))
            .collect();
        prop_assert_eq!(html, Vec::<String>::new());
    }
}
