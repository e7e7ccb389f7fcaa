//! What must be read nowhere: keys and the way to the database.

use reqwest::Method;
use scripted_claude::Reply;
use serde_json::{Value, json};
use system_tests::World;

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_the_database_are_in_no_log_no_event_no_error_and_no_container() {
    let mut world = World::with(&[("LOG__LEVEL", "debug")]).await;
    let secret = "an-environment-secret-5f2d";
    let made = world
        .post(
            "/v1/environments",
            json!({ "name": "secretive", "internetAccess": false, "secrets": [{ "key": "TOKEN", "value": secret }] }),
        )
        .await;
    assert!(!made.to_string().contains(secret), "a secret is never echoed");
    let environment = made["environment"]["id"].as_str().expect("an id").to_owned();
    let thread = world.thread(&environment).await;
    // A secret of the environment is what a tool is given; ours are not.
    assert_eq!(world.bash(&thread, "echo ${#TOKEN}").await, (secret.len().to_string(), false));

    // The brackets keep the words we look for out of the command line that looks for them.
    // Everything that a process in the container can read about itself and the others, and what is mounted where.
    let look = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat /proc/self/mountinfo; \
                find / -xdev \\( -name 'secret.ke[y]' -o -name 'api-key' -o -name '.s.PGSQ[L]*' -o -name 'docker.soc[k]' \\) 2>/dev/null; \
                grep -rsIlE 'sk-ant-test|tb_[0-9A-Za-z]{20}' /etc /home /root /run /tmp /var /workspace 2>/dev/null | head; true";
    let (seen, _) = world.bash(&thread, &format!("{{ {look}; }} > all; wc -c < all")).await;
    assert!(seen.parse::<usize>().expect("a number") > 1000, "it looked: {seen}");
    let all = world.file(&environment, "all").await.expect("it was written");
    let database = world.data().join("postgres").to_string_lossy().into_owned();
    let ours =
        [world.key.as_str(), world.model_key.as_str(), database.as_str(), "secret.key", ".s.PGSQL", "docker.sock"];
    for secret in ours {
        assert!(!all.contains(secret), "{secret} is in the container:\n{all}");
    }
    assert!(!all.contains("ANTHROPIC"), "nothing of the model is in the container");

    // A run that fails because of the model, and requests that fail because of the key or the body.
    world.claude.set_script(scripted_claude::Script::sequence([Reply::status(401)]));
    let mut failing = world.try_send(&thread, "Fail, please.").await.expect("accepted");
    failing.rest().await;
    let mut bodies: Vec<String> = Vec::new();
    let wrong = "tb_0123456789abcdefghijklmnopqrstuvwxyz";
    for request in [
        world.request(Method::GET, "/v1/agents").bearer_auth(wrong),
        world.request(Method::POST, "/v1/agents").body(format!("{{\"name\": \"{}", world.key)),
        world.request(Method::GET, "/v1/environments/env_nothing/files/x"),
        world.request(Method::GET, "/v1/nothing").header("x-api-key", wrong),
        world.request(Method::GET, "/metrics"),
        world.request(Method::GET, "/health"),
        world.request(Method::GET, "/openapi.json"),
    ] {
        bodies.push(request.send().await.expect("answered").text().await.expect("text"));
    }
    for path in ["/v1/environments", "/v1/agents", "/v1/threads"] {
        bodies.push(world.get(path).await.to_string());
    }
    let log_of: Vec<Value> = world.log_of(&thread).await.into_iter().map(|frame| frame.data).collect();
    // The first command printed the length of the secret only, so it is in no event either.
    bodies.push(Value::from(log_of).to_string());
    for body in &bodies {
        for secret in [world.model_key.as_str(), database.as_str(), secret] {
            assert!(!body.contains(secret), "{secret} is in {body}");
        }
    }
    for body in bodies.iter().filter(|body| !body.starts_with("{\"name\"")) {
        assert!(!body.contains(&world.key), "{body}");
    }
    // A server that has ended has written all it had to say.
    assert!(world.stop().await.success());
    let log = world.log();
    for secret in [world.key.as_str(), world.model_key.as_str(), wrong, secret] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    world.finish().await;
}
