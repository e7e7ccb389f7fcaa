//! Skills of a run: what they cost while they are not used, and what comes of using them.

use domain::{
    event::Event,
    run::{Outcome, RunOptions},
    skill::{Category, Skill, SkillFile},
};
use scripted_claude::Reply;
use serde_json::json;
use store::skills::NewSkill;

use crate::world::{World, bash};

async fn make(world: &World, name: &str, description: &str, markdown: &str, files: &[(&str, &str)]) -> Skill {
    let files = files.iter().map(|(path, content)| SkillFile {
        path: (*path).to_owned(),
        content: content.as_bytes().to_vec(),
        language: None,
        is_executable: path.ends_with(".sh"),
    });
    let new = NewSkill {
        name: name.into(),
        description: description.into(),
        markdown: markdown.into(),
        category: Category::Custom,
        icon: None,
        is_active: true,
        archive_sha256: None,
        files: files.collect(),
    };
    world.store().create_skill(&world.database.project, new).await.expect("a skill")
}

fn with(skills: &[&str]) -> RunOptions {
    let skills = skills.iter().map(|skill| (*skill).to_owned()).collect();
    RunOptions { enabled_skills: Some(skills), ..RunOptions::default() }
}

fn done() -> Outcome {
    Outcome::Completed { content: "done".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skill_is_read_when_it_is_needed_and_its_files_can_only_be_read() {
    let world = World::new(|asked| match asked.round {
        0 if asked.user_text == "use" => Reply::tool("Skill", json!({"skill": "greeter", "args": "Ada"})),
        1 if asked.user_text == "use" => bash(
            "d=$(ls -d /skills/greeter-*); $d/run.sh; head -2 $d/SKILL.md; \
             echo x > $d/run.sh; rm -rf $d; touch /skills/new; ls -A /workspace; ls /skills | wc -l",
        ),
        0 if asked.user_text == "wrong" => Reply::tool("Skill", json!({"skill": "nobody"})),
        _ => Reply::text("done"),
    })
    .await;
    let text = "Say hello to $ARGUMENTS with ${CLAUDE_SKILL_DIR}/run.sh.";
    let skill =
        make(&world, "Greeter", "Greets people.", text, &[("run.sh", "#!/bin/sh\necho hello"), ("doc/a.md", "x")])
            .await;
    let server = world.server("node_a").await;
    let started = world.send_with("use", with(&[skill.id.as_str()])).await;
    assert_eq!(world.outcome(&started.run_id).await, done());
    let calls = world.finished_calls().await;
    let results: Vec<_> = calls.iter().map(|call| call.result.as_ref().expect("a result")).collect();
    let directory = format!("/skills/{}", skill.directory());
    assert_eq!(
        results[0].text,
        format!(
            "# Skill greeter\n\nIts files are in {directory}, where they can be read and run, not changed:\n- doc/a.md\n\
             - run.sh\n\nSay hello to Ada with {directory}/run.sh."
        )
    );
    let output = &results[1].text;
    assert!(output.starts_with("hello\n---\nname: \"greeter\"\n"), "{output}");
    assert!(output.matches("Read-only file system").count() >= 3, "{output}");
    assert!(output.trim_end().ends_with("\n1"), "nothing of the workspace, and one skill: {output}");
    // The prompt has its name and description, and not its text.
    let first = world.claude.requests()[0].json();
    let system = first["system"].to_string();
    assert!(system.contains("greeter: Greets people.") && !system.contains("Say hello"), "{system}");

    let wrong = world.send_with("wrong", with(&["greeter"])).await;
    assert_eq!(world.outcome(&wrong.run_id).await, done());
    let calls = world.finished_calls().await;
    let said = &calls.last().expect("a call").result.as_ref().expect("a result").text;
    assert_eq!(said, "There is no skill \"nobody\". The skills are: greeter.");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_skills_cost_little_and_the_prompt_stays_the_same() {
    let world = World::new(|_| Reply::text("done")).await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("without").await, done());
    let (description, text) = ("What it does and when to use it. ".repeat(10), "Long text. ".repeat(2000));
    let mut names = Vec::new();
    for n in 0..100 {
        names.push(make(&world, &format!("skill {n}"), &description, &text, &[("f", "x")]).await.slug);
    }
    let thread = world.new_thread().await;
    let send = async |mut names: Vec<String>| {
        names.reverse();
        let new = store::runs::NewRun {
            messages: vec!["with".into()],
            options: RunOptions { enabled_skills: Some(names), ..RunOptions::default() },
            ..Default::default()
        };
        let started = world.store().start_run(&world.database.project, &thread, new).await.expect("a run");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let run = world.store().find_run(&world.database.project, &started.run_id).await.expect("reads");
            if run.expect("is there").status.is_over() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the run ends within a minute");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    send(names.clone()).await;
    names.reverse();
    send(names).await;
    let requests = world.claude.requests();
    let prompt = |n: usize| {
        let request = requests[n].json();
        json!([request["system"], request["tools"]]).to_string()
    };
    let (without, first, second) = (prompt(0), prompt(1), prompt(2));
    let cost = first.len() - without.len();
    println!("{{\"test\": \"skills\", \"n\": 100, \"prompt_bytes\": {cost}, \"tokens\": {}}}", cost / 4);
    assert!(cost < 20_000, "{cost} bytes");
    assert_eq!(first.matches("\\n- skill-").count(), 100);
    assert_eq!(first, second, "in whatever order they were named");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skill_of_the_workspace_is_told_as_untrusted_and_a_deleted_one_is_missed() {
    let world = World::new(|asked| match asked.round {
        0 => Reply::tool("Skill", json!({"skill": "workspace:deploy"})),
        _ => Reply::text("done"),
    })
    .await;
    let directory = world.path(".claude/skills/deploy");
    std::fs::create_dir_all(&directory).expect("made");
    std::fs::write(directory.join("SKILL.md"), "---\ndescription: How we deploy.\n---\nPush it.").expect("written");
    let server = world.server("node_a").await;
    let started = world.send_with("go", with(&["skill_gone"])).await;
    assert_eq!(world.outcome(&started.run_id).await, done());
    let system = world.claude.requests()[0].json()["system"].to_string();
    assert!(system.contains("nobody vouches for them") && system.contains("- workspace:deploy: How we deploy."));
    let calls = world.finished_calls().await;
    let text = &calls[0].result.as_ref().expect("a result").text;
    assert!(text.starts_with("# Skill workspace:deploy (untrusted)") && text.ends_with("Push it."), "{text}");
    let is_told = world.events().await.iter().any(
        |event| matches!(&event.event, Event::Log { message, .. } if message.contains("skills that are not there any more: skill_gone")),
    );
    assert!(is_told);
    server.stop_soft().await;
    world.end().await;
}
