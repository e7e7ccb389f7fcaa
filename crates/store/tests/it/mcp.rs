//! What is kept of MCP servers: found again in order, one for each way to reach a server, and not without end.

use std::time::Duration;

use store::mcp::KeptListing;
use testing::Database;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_a_server_has_is_found_by_how_it_is_reached() {
    let database = Database::start().await;
    let store = &database.store;
    let environment = store.default_environment(&database.project).await.expect("an environment").id;
    let ways = ["a", "b", "a"].map(str::to_owned);
    let found = store.find_mcp_listings(&environment, &ways, DAY).await.expect("reads");
    assert_eq!(found, [None, None, None]);
    for listing in ["old", "new"] {
        store.keep_mcp_listing(&environment, "a", listing).await.expect("writes");
    }
    let kept = |is_old| Some(KeptListing { listing: "new".into(), is_old });
    let found = store.find_mcp_listings(&environment, &ways, DAY).await.expect("reads");
    assert_eq!(found, [kept(false), None, kept(false)]);
    let found = store.find_mcp_listings(&environment, &ways, Duration::ZERO).await.expect("reads");
    assert_eq!(found[0], kept(true));

    for n in 0..210 {
        store.keep_mcp_listing(&environment, &format!("way {n}"), "{}").await.expect("writes");
    }
    let ways: Vec<_> = (0..210).map(|n| format!("way {n}")).collect();
    let found = store.find_mcp_listings(&environment, &ways, DAY).await.expect("reads");
    assert_eq!(found.iter().flatten().count(), 200);
    assert!(found[209].is_some(), "the newest stays");
}
