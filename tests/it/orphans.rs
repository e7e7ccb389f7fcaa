//! Containers that no environment wants any more, as a crash at the wrong moment leaves them.

use std::time::{Duration, Instant};

use system_tests::{Container, World, eventually};
use testing::{Report, times};

/// `ATELIER_TEST_ORPHANS` sets how many.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_is_removed_within_a_minute_and_nothing_of_others_is_touched() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let ours = world.container();
    let foreign: Vec<_> = (0..3).map(|_| Container::foreign()).collect();
    let mut report = Report::new("orphans");
    report.n = times("ATELIER_TEST_ORPHANS", 12);
    // Most are not running: that is what a crash between two requests to the engine leaves.
    let planted: Vec<_> = (0..report.n).map(|number| world.plant_orphan(number % 10 == 0)).collect();
    let began = Instant::now();
    let limit = Duration::from_secs(60) + Duration::from_millis(100) * u32::try_from(report.n).expect("not so many");
    eventually("the orphans are gone", limit, async || world.containers() == [ours.clone()]).await;
    report.sample(began.elapsed());
    report.stuck = planted.iter().filter(|container| container.exists()).count();
    report.lost = foreign.iter().filter(|container| !container.exists()).count();
    foreign.iter().filter(|container| container.exists()).for_each(Container::remove);
    assert_eq!(world.bash(&thread, "echo untouched").await, ("untouched".to_owned(), false));
    report.finish();
    world.finish().await;
}
