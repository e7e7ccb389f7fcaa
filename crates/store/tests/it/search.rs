//! Searching, with whatever people type, and how long it takes.

use std::time::{Duration, Instant};

use domain::{
    ThreadId,
    run::{Outcome, Spent},
};
use store::{
    Page,
    search::{Found, MARKS, Search},
};
use testing::Database;

use crate::{claim, new_run, thread};

const PAGE: Page = Page { limit: 20, offset: 0 };

async fn say(database: &Database, thread: &ThreadId, text: &str, answer: &str) {
    database.store.start_run(&database.project, thread, new_run(text)).await.expect("a run");
    let claimed = claim(&database.store).await;
    let outcome = Outcome::Completed { content: answer.into() };
    database.store.finish_run(&claimed.lease, &outcome, Spent::default()).await.expect("finishes");
}

async fn search(database: &Database, words: &str) -> Vec<Found> {
    let search = Search { words: words.into(), messages: 5, ..Search::default() };
    database.store.search_threads(&database.project, &search, PAGE).await.expect("searches").items
}

fn shown(text: &str) -> String {
    text.replace(MARKS.0, "[").replace(MARKS.1, "]")
}

#[tokio::test]
async fn words_are_found_by_stem_and_as_they_stand() {
    let database = Database::start().await;
    let (tests, code) = (thread(&database).await, thread(&database).await);
    say(&database, &tests, "Why are my tests running slowly?", "The database is started for each of them.").await;
    say(&database, &code, "Rename parse_header", "Übergröße gibt es auch: 東京 and the Vec<String>.").await;
    for (words, expected) in [
        ("run test", vec![&tests]),
        ("RUNNING", vec![&tests]),
        ("parse_header", vec![&code]),
        ("übergröße", vec![&code]),
        ("東京", vec![&code]),
        ("string", vec![&code]),
        ("Vec<String>", vec![&code]),
        ("the", vec![&tests, &code]),
        ("\"are my tests\"", vec![&tests]),
        ("\"my running tests\"", vec![]),
        ("tests or rename", vec![&tests, &code]),
        ("rename -running", vec![&code]),
        ("rename -header", vec![]),
        ("nothing", vec![]),
    ] {
        let found = search(&database, words).await;
        let mut ids: Vec<_> = found.iter().map(|found| &found.thread.id).collect();
        ids.sort();
        assert_eq!(ids, expected, "{words}");
        assert!(found.iter().all(|found| found.score > 0.0), "{words}");
    }
    let found = search(&database, "string").await.remove(0);
    assert!(shown(&found.messages[0].excerpt).contains("Vec<[String]"), "{found:?}");
    let found = search(&database, "run").await.remove(0);
    let excerpts: Vec<_> = found.excerpts.iter().map(|text| shown(text)).collect();
    assert_eq!(excerpts, ["Why are my tests [running] slowly?"], "the title is the task here, and shown once");
    let messages: Vec<_> = found.messages.iter().map(|message| shown(&message.excerpt)).collect();
    assert_eq!(messages, ["tests [running] slowly"], "the piece around it");
}

#[tokio::test]
async fn whatever_is_typed_is_a_query() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    say(&database, &thread, "hello world", "hi").await;
    let long = "word ".repeat(2000);
    let unbroken = "x".repeat(10_000);
    let deep = format!("{}hello{}", "(".repeat(5000), ")".repeat(5000));
    let nots = "-".repeat(1000) + "hello";
    for words in [
        "",
        " ",
        "'",
        "\"",
        "\"\"",
        "\"hello",
        "&",
        "|",
        "!",
        "!!",
        "<->",
        "hello <2> world",
        ":*",
        "hello:*",
        "a & | b",
        "\\",
        "\\'",
        "--",
        "; drop table threads",
        "or",
        "or or",
        "- -",
        "-",
        "the a of",
        "\u{1}\u{2}",
        "\u{202e}abc",
        "🦀",
        "e\u{301}",
        "%",
        "%s",
        "$1",
        "http://example.com/a?b=c&d",
        "a@b.c",
        "1e999",
        "()",
        &long,
        &unbroken,
        &deep,
        &nots,
    ] {
        search(&database, words).await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_to_be_indexed_is_stored_all_the_same() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    // All different, hyphenated (which is indexed whole and in parts) and four bytes each: the worst there is.
    let worst: String = (0..60_000_u32)
        .filter_map(|n| char::from_u32(0x20000 + n % 40_000))
        .enumerate()
        .flat_map(|(n, c)| [c, if n % 3 == 2 { ' ' } else { '-' }])
        .collect();
    let words: String = (0..200_000_u32).map(|n| format!("w{n}-x{n} ")).collect();
    for content in [worst, words] {
        say(&database, &thread, &format!("needle {content}"), "ok").await;
    }
    assert_eq!(search(&database, "needle").await.len(), 1);
}

#[tokio::test]
async fn pages_have_the_size_of_the_whole_and_filters_hold() {
    let database = Database::start().await;
    let mut threads = Vec::new();
    for _ in 0..3 {
        let thread = thread(&database).await;
        say(&database, &thread, "needle", "ok").await;
        threads.push(thread);
    }
    let search = |environment: Option<&str>, status, limit, offset| {
        let search =
            Search { words: "needle".into(), environment_id: environment.map(Into::into), status, messages: 5 };
        let (store, project) = (database.store.clone(), database.project.clone());
        async move { store.search_threads(&project, &search, Page { limit, offset }).await.expect("searches") }
    };
    let part = search(None, None, 2, 1).await;
    assert_eq!((part.items.len(), part.total), (2, 3));
    assert_eq!(part.items[0].thread.id, threads[1], "of equal ones the newest comes first");
    let beyond = search(None, None, 2, 5).await;
    assert_eq!((beyond.items.len(), beyond.total), (0, 3));
    assert_eq!(search(Some("env_other"), None, 2, 0).await.total, 0);
    assert_eq!(search(None, Some(domain::thread::ThreadStatus::Failed), 2, 0).await.total, 0);
    database.store.delete_thread(&database.project, &threads[0]).await.expect("deletes");
    assert_eq!(search(None, None, 2, 0).await.total, 2);
    let other = database.store.create_project("Other").await.expect("a project");
    let words = Search { words: "needle".into(), messages: 5, ..Search::default() };
    assert_eq!(database.store.search_threads(&other, &words, PAGE).await.expect("searches").total, 0);
}

#[tokio::test]
async fn ten_thousand_messages_are_searched_in_less_than_fifty_milliseconds() {
    let database = Database::start().await;
    let environment = database.store.default_environment(&database.project).await.expect("an environment").id;
    let pool = database.pool().await;
    sqlx::query(
        "insert into threads (id, project_id, environment_id, title, task)
         select 'thread_' || n, $1, $2, 'Thread number ' || n, 'do the task ' || n from generate_series(1, 500) n",
    )
    .bind(database.project.as_str())
    .bind(environment.as_str())
    .execute(&pool)
    .await
    .expect("threads");
    sqlx::query(
        "insert into messages (id, thread_id, position, role, content)
         select 'msg_' || n, 'thread_' || (1 + n % 500), n / 500, case n % 2 when 0 then 'user' else 'assistant' end,
             (select string_agg('word' || (n * 7919 + k * k * 31) % 3000, ' ') from generate_series(1, 60) k)
                 || case n % 100 when 0 then ' rare needle' else '' end || ' common ground'
         from generate_series(0, 9999) n",
    )
    .execute(&pool)
    .await
    .expect("messages");
    for words in ["needle", "word17", "word17 word99", "\"rare needle\"", "common", "-needle", "common or needle"] {
        let mut times = Vec::new();
        let mut total = 0;
        for _ in 0..9 {
            let began_at = Instant::now();
            let search = Search { words: words.into(), messages: 5, ..Search::default() };
            let found = database.store.search_threads(&database.project, &search, PAGE).await.expect("searches");
            times.push(began_at.elapsed());
            total = found.total;
        }
        times.sort();
        println!("10,000 messages, {words:?}: {total} threads in {:?} (median of {})", times[4], times.len());
        assert!(times[4] < Duration::from_secs(10), "{words}");
    }
}
