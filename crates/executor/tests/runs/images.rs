//! Pictures made in a run: a file of the run's like any other, paid for, under the rules for files.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    MicroUsd,
    event::{Detail, Event},
    run::{Outcome, RunOptions},
};
use executor::tools::image::{Ability, Images, Provider};
use scripted_claude::{Asked, Reply};
use serde_json::{Value, json};
use store::Page;

use crate::{recorded::Recorded, web_search::online, world::World};

/// One pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn draws(asked: &Asked) -> Reply {
    match asked.round {
        0 if asked.tools.iter().any(|tool| tool == "GenerateImage") => {
            Reply::tool("GenerateImage", json!({"prompt": "A fox", "file_path": "/workspace/art/fox.png"}))
        }
        _ => Reply::text("done"),
    }
}

fn options(permissions: Value) -> RunOptions {
    let permissions = [("permissionSet".to_owned(), permissions)].into_iter().filter(|(_, set)| !set.is_null());
    let enabled_skills = Some(vec!["image_generation".into()]);
    RunOptions { enabled_skills, stored: permissions.collect(), ..RunOptions::default() }
}

async fn run(world: &World, options: RunOptions) {
    let started = world.send_with("draw", options).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_a_step_of_the_run_and_costs_what_it_costs() {
    let answer = json!({"data": [{"b64_json": PNG}]}).to_string();
    let provider = Recorded::start("200 OK", Box::leak(answer.into_boxed_str())).await;
    let url = provider.base.parse().expect("a URL");
    let images = Provider::OpenAi { url, key: None, model: "gpt-image-1".into() };
    let images = Images::new(images, Ability::Change, 0.04).expect("a client");
    let world = World::new(draws).await;
    let server = world.server_with("node_a", |options| options.images = Some(images)).await;

    // What the prompt says would leave the machine.
    run(&world, options(json!(null))).await;
    assert_eq!(world.logged("skills").await, ["The run goes on without image_generation: this run has no internet."]);
    online(&world).await;

    // A rule about writing files is one about pictures, too, and nothing is paid for what it forbids.
    run(&world, options(json!({"rules": {"deny": ["Edit(/workspace/art/**)"]}}))).await;
    let calls = world.finished_calls().await;
    let result = calls[0].result.as_ref().expect("is finished");
    assert!(result.text.contains("Edit(/workspace/art/**) denies it"), "{}", result.text);
    assert_eq!(provider.count(), 0);

    run(&world, options(json!(null))).await;
    assert_eq!(provider.count(), 1);
    let asked = provider.asked();
    assert_eq!((asked.line.as_str(), asked.header("authorization")), ("POST /images/generations HTTP/1.1", None));
    let calls = world.finished_calls().await;
    let result = calls[1].result.as_ref().expect("is finished");
    assert!(matches!(&result.detail, Some(Detail::Image { width: 1, height: 1, is_new: true, .. })), "{result:?}");
    assert_eq!(STANDARD.encode(std::fs::read(world.path("art/fox.png")).expect("is there")), PNG);
    let steps = world.store().list_steps(&world.database.project, &world.thread, Page::ALL).await.expect("reads").items;
    let titles: Vec<_> = steps.iter().map(|step| step.change.title.as_str()).collect();
    assert_eq!(titles, ["GenerateImage: art/fox.png"]);
    let spent = world.events().await.into_iter().filter_map(|event| match event.event {
        Event::RunFinished { spent, .. } => Some(spent.cost),
        _ => None,
    });
    let spent: Vec<MicroUsd> = spent.collect();
    assert!(spent[2] >= MicroUsd(40_000) && spent[1] < MicroUsd(40_000), "{spent:?}");
    server.stop_soft().await;
    world.end().await;
}
