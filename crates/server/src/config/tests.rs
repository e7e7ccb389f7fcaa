use std::{io::Write, time::Duration};

use secrecy::ExposeSecret;
use tempfile::NamedTempFile;

use super::*;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(flags: Flags, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    Loaded::load(&flags, &variables.iter().copied().collect()).map_err(|err| err.to_string())
}

fn wrong(variables: &[(&str, &str)]) -> String {
    load(Flags::default(), variables).unwrap_err()
}

#[test]
fn the_defaults_are_complete_and_right() {
    let loaded = load(Flags::default(), &[]).unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:8080".parse().unwrap());
    assert!(loaded.config.model.api_key.is_none());
    assert_eq!(loaded.config.runs.drain, Duration::from_secs(10));
    assert_eq!(loaded.config.profiles.power.memory, 8 << 30);
    assert_eq!(loaded.source("server.listen"), "the defaults");
}

#[test]
fn later_sources_win() {
    let file = file("[server]\nlisten = \"127.0.0.1:1\"\n[runs]\nconcurrent = 7\n[log]\nlevel = \"debug\"\n");
    let flags = |listen: Option<&str>| Flags {
        config: Some(file.path().to_owned()),
        listen: listen.map(str::to_owned),
        ..Flags::default()
    };
    let variables = [("ATELIER_SERVER__LISTEN", "127.0.0.1:2"), ("ATELIER_RUNS__CONCURRENT", "8"), ("HOME", "/root")];

    let config = load(flags(None), &[]).unwrap().config;
    assert_eq!((config.server.listen.port(), config.runs.concurrent), (1, 7));
    let config = load(flags(None), &variables).unwrap().config;
    assert_eq!((config.server.listen.port(), config.runs.concurrent), (2, 8));
    let loaded = load(flags(Some("127.0.0.1:3")), &variables).unwrap();
    assert_eq!((loaded.config.server.listen.port(), loaded.config.runs.concurrent), (3, 8));
    assert_eq!(loaded.config.log.level, "debug");
    assert_eq!(loaded.source("server.listen"), "the flag --listen");
    assert_eq!(loaded.source("runs.concurrent"), "the environment variable ATELIER_RUNS__CONCURRENT");
    assert_eq!(loaded.source("log.level"), format!("the file {}", file.path().display()));
}

#[test]
fn the_names_that_every_client_of_the_model_knows_are_known_here() {
    let loaded = load(
        Flags::default(),
        &[
            ("ANTHROPIC_API_KEY", "12345"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8089"),
            ("ANTHROPIC_AUTH_TOKEN", "t"),
        ],
    );
    let model = loaded.unwrap().config.model;
    // It looks like a number and is a text all the same; and it wins over the token.
    assert_eq!(model.api_key.unwrap().expose_secret(), "12345");
    assert_eq!(model.auth, None);
    assert_eq!(model.base_url.as_str(), "http://127.0.0.1:8089/");

    let model =
        load(Flags::default(), &[("ANTHROPIC_AUTH_TOKEN", "t"), ("ANTHROPIC_API_KEY", "")]).unwrap().config.model;
    assert_eq!(model.api_key.unwrap().expose_secret(), "t");
    assert_eq!(model.auth, Some(claude::Auth::Bearer));

    let ours = [("ANTHROPIC_API_KEY", "theirs"), ("ATELIER_MODEL__API_KEY", "ours")];
    let model = load(Flags::default(), &ours).unwrap().config.model;
    assert_eq!(model.api_key.unwrap().expose_secret(), "ours");
}

#[test]
fn a_wrong_setting_is_one_sentence() {
    let sentences = [
        wrong(&[("ATELIER_SERVER__LISTEN", "8080")]),
        wrong(&[("ATELIER_SERVER__LISTN", "127.0.0.1:8080")]),
        wrong(&[("ATELIER_SERVR__LISTEN", "127.0.0.1:8080")]),
        wrong(&[("ATELIER_LISTEN", "127.0.0.1:8080")]),
        wrong(&[("ATELIER_RUNS__LEASE", "15")]),
        wrong(&[("ATELIER_RUNS__POLL", "20s")]),
        wrong(&[("ATELIER_RUNS__CONCURRENT", "0")]),
        wrong(&[("ATELIER_PROFILES__LITE__MEMORY", "lots")]),
        wrong(&[("ATELIER_PROFILES__POWER__CPUS", "-1")]),
        wrong(&[("ATELIER_SANDBOX__USER", "root")]),
        wrong(&[("ATELIER_SANDBOX__IMAGE", "")]),
        wrong(&[("ATELIER_SANDBOX__ALLOW_UNFILTERED_EGRESS", "perhaps")]),
        wrong(&[("ATELIER_MODEL__MAX_RETRIES", "many")]),
        wrong(&[("ATELIER_MODEL__AUTH", "basic")]),
        wrong(&[("ANTHROPIC_BASE_URL", "api.anthropic.com")]),
        wrong(&[("ATELIER_SEARCH__PROVIDER", "bing")]),
        wrong(&[("ATELIER_SEARCH__PROVIDER", "brave")]),
        wrong(&[("ATELIER_IMAGES__PROVIDER", "dall-e")]),
        wrong(&[("ATELIER_IMAGES__PROVIDER", "gemini")]),
        wrong(&[("ATELIER_LOG__FORMAT", "xml")]),
        wrong(&[("ATELIER_LOG__LEVEL", "loud=very")]),
        wrong(&[("ATELIER_TIERS__FREE__CONCURRENT_RUNS", "many")]),
        wrong(&[("ATELIER_TIERS__FREE__RUNS", "2")]),
        wrong(&[("ATELIER_TIERS__A TIER__CONCURRENT_RUNS", "2")]),
        wrong(&[("ATELIER_SERVER", "{listen=\"x\"}")]),
    ];
    insta::assert_snapshot!(sentences.join("\n"));
}

#[test]
fn a_broken_file_is_named_with_the_place() {
    let file = file("[server]\nlisten = \n");
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    let said = load(flags, &[]).unwrap_err();
    assert!(said.contains(&file.path().display().to_string()), "{said}");
    let flags = Flags { config: Some("/nowhere/atelier.toml".into()), ..Flags::default() };
    assert!(load(flags, &[]).unwrap_err().starts_with("cannot read the settings file /nowhere/atelier.toml"));
}

#[test]
fn no_secret_is_shown_even_when_it_is_wrong() {
    let canary = "canary-7f3a";
    for (name, value) in [
        ("ATELIER_DATABASE__URL", format!("mysql://user:{canary}@host/db")),
        ("ATELIER_MODEL__API_KEY", format!("[\"{canary}\"]")),
        ("ANTHROPIC_CUSTOM_HEADERS", format!("X-Secret {canary}")),
    ] {
        let said = wrong(&[(name, &value)]);
        assert!(!said.contains(canary), "{said}");
        assert!(said.contains(name), "{said}");
    }
    let variables = [
        ("ANTHROPIC_API_KEY", canary),
        ("ATELIER_DATABASE__URL", "postgres://user:canary-7f3a@host/db"),
        ("ANTHROPIC_CUSTOM_HEADERS", "X-Secret: canary-7f3a"),
        ("ATELIER_SEARCH__BRAVE_KEY", canary),
        ("ATELIER_SEARCH__TAVILY_KEY", canary),
        ("ATELIER_IMAGES__OPENAI_KEY", canary),
        ("ATELIER_IMAGES__GEMINI_KEY", canary),
    ];
    let loaded = load(Flags::default(), &variables).unwrap();
    assert!(!loaded.show().contains(canary), "{}", loaded.show());
    assert!(!format!("{loaded:?}").contains("canary"), "debug output shows it");
    assert!(loaded.show().contains("api_key = \"***\"  # from the environment variable ANTHROPIC_API_KEY"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let shown = load(Flags::default(), &[("ATELIER_SANDBOX__EGRESS_ALLOW", "[10.1.2.3]")]).unwrap().show();
    insta::assert_snapshot!(shown);
    let file = file(&shown);
    let again = load(Flags { config: Some(file.path().to_owned()), ..Flags::default() }, &[]).unwrap();
    assert_eq!(again.config.sandbox.egress_allow, ["10.1.2.3"]);
}

#[test]
fn a_log_level_that_is_none_is_no_module_either() {
    for level in ["loud", "info,loud", "info,"] {
        let text = wrong(&[("ATELIER_LOG__LEVEL", level)]);
        assert!(text.contains("log.level") && text.contains("must be error, warn"), "{text}");
    }
    for level in ["info", "WARN", "info,executor=debug", "off", "debug,store=trace"] {
        load(Flags::default(), &[("ATELIER_LOG__LEVEL", level)]).unwrap();
    }
}

#[test]
fn tiers_come_from_files_and_from_the_environment() {
    let file = file("[tiers.free]\nconcurrent_runs = 2\n[tiers.internal]\nconcurrent_runs = 0\n");
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    let loaded = load(flags, &[("ATELIER_TIERS__FREE__REQUESTS_PER_WINDOW", "100")]).unwrap();
    let tiers: Vec<_> = loaded.config.tiers.iter().collect();
    let [(free, one), (internal, other)] = tiers[..] else { panic!("two: {tiers:?}") };
    assert_eq!((free.as_str(), one.concurrent_runs, one.requests_per_window), ("free", Some(2), Some(100)));
    assert_eq!((internal.as_str(), other.concurrent_runs, other.requests_per_window), ("internal", Some(0), None));
    assert!(loaded.show().contains("[tiers.free]\nconcurrent_runs = 2"), "{}", loaded.show());
}
