//! Projects of tiers: how many of their runs are worked on at once, by all servers together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::{
    ProjectId,
    limits::Limits,
    tier::{Tier, Tiers},
};
use executor::Options;
use scripted_claude::Reply;
use store::{projects::NewProject, runs::NewRun, threads::NewThread};
use tokio::time::{Instant, sleep};

use crate::world::World;

const RUNS_OF_EACH: usize = 6;

/// Makes a project with runs that wait, each in a thread of its own. Their message is the tier.
async fn project(world: &World, tier: &str) -> ProjectId {
    let store = world.store();
    let organization = "org_default".parse().expect("an id");
    let new = NewProject { name: tier.to_owned(), tier: Some(tier.to_owned()), ..NewProject::default() };
    let project = store.create_project_in(&organization, new).await.expect("a project").id;
    let environment = store.default_environment(&project).await.expect("an environment").id;
    for _ in 0..RUNS_OF_EACH {
        let new = NewThread {
            environment_id: environment.clone(),
            agent_id: None,
            app_id: None,
            limits: Limits::default(),
            title: None,
            task: None,
            metadata: None,
        };
        let thread = store.create_thread(&project, new).await.expect("a thread").id;
        let new = NewRun { messages: vec![tier.into()], ..NewRun::default() };
        store.start_run(&project, &thread, new).await.expect("a run");
    }
    project
}

#[tokio::test]
async fn two_servers_work_on_as_many_runs_of_a_project_at_once_as_its_tier_says_and_then_on_the_others() {
    let world = World::new(|asked| Reply::text(&asked.user_text)).await;
    // The third is not in the settings (any more): what is general holds for it.
    let most = [("small", 1), ("large", 3), ("gone", 2)];
    let mut projects = Vec::new();
    for (tier, most) in most {
        projects.push((project(&world, tier).await, tier, most));
    }
    let known = most.into_iter().filter(|(tier, _)| *tier != "gone");
    let tiers: Tiers =
        known.map(|(name, most)| (name, Tier { concurrent_runs: Some(most), ..Tier::default() })).collect();
    let tiers = Arc::new(tiers);
    let change = |options: &mut Options| {
        options.tiers = Arc::clone(&tiers);
        options.concurrent_per_project = 2;
    };

    // While no answer comes, every run that is worked on asks once.
    world.claude.pause();
    let servers = [world.server_with("node_a", change).await, world.server_with("node_b", change).await];
    world.claude.wait_for_requests(6).await;
    // Each server looks for work 25 times in that.
    sleep(Duration::from_millis(500)).await;
    let mut asked: BTreeMap<String, u32> = BTreeMap::new();
    for request in world.claude.requests() {
        *asked.entry(request.asked.expect("is understood").user_text).or_default() += 1;
    }
    assert_eq!(asked, most.map(|(tier, most)| (tier.to_owned(), most)).into_iter().collect());
    world.claude.resume();

    let pool = world.database.pool().await;
    let begun = Instant::now();
    loop {
        let done: i64 = sqlx::query_scalar("select count(*) from runs where status = 'completed'")
            .fetch_one(&pool)
            .await
            .expect("counts");
        if done == (most.len() * RUNS_OF_EACH) as i64 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{done} runs are done");
        sleep(Duration::from_millis(20)).await;
    }
    for (project, tier, most) in &projects {
        // A run is claimed after the commit that made room for it.
        let at_once: i64 = sqlx::query_scalar(
            "select max((
                 select count(*) from runs o
                 where o.project_id = r.project_id and o.started_at <= r.started_at and o.completed_at > r.started_at
             ))
             from runs r where r.project_id = $1",
        )
        .bind(project.as_str())
        .fetch_one(&pool)
        .await
        .expect("counts");
        assert_eq!(at_once, i64::from(*most), "{tier}");
        println!("{tier}: {RUNS_OF_EACH} runs over two servers, {at_once} at once at most");
    }
    pool.close().await;
    for server in servers {
        server.stop_soft().await;
    }
    world.end().await;
}
