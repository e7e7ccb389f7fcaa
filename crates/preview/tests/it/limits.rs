//! What one preview may take of the server, and how long what listens may take.

use std::time::Duration;

use futures::future::join_all;

use crate::world::{PORT, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_at_once_are_answered_and_one_more_is_refused() {
    let world = World::with(|options| options.connections = 64).await;
    let (link, other) = (world.link(PORT).await, world.link(PORT).await);
    // Whoever asks whether it is full takes a place for that moment; who finds none then comes again.
    let wait = async || loop {
        let answer = world.get(&link, "/wait?after=go").await;
        if answer.status() != 503 {
            return answer;
        }
    };
    let requests = join_all((0..64).map(|_| wait()));
    let refused = async {
        eventually("it is full", async || world.get(&link, "/").await.status() == 503).await;
        // Others are not.
        assert_eq!(world.get(&other, "/").await.status(), 200);
        world.go_on("go").await;
    };
    let (answers, ()) = tokio::join!(requests, refused);
    for answer in answers {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("text"), "waited");
    }
    eventually("places are given back", async || world.get(&link, "/").await.status() == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_or_is_none_is_told() {
    let world = World::with(|options| options.response_timeout = Duration::from_secs(1)).await;
    let link = world.link(PORT).await;
    let silent = world.get(&link, "/wait?after=never").await;
    assert_eq!(silent.status(), 504);
    assert!(silent.text().await.expect("text").contains("does not answer"));
    let script = "import socket\ns = socket.create_server((\"127.0.0.1\", 5003))\n\
                  while True:\n    peer = s.accept()[0]; peer.recv(1000); peer.sendall(b\"220 mail\\r\\n\"); peer.close()";
    world.run(&["python3", "-c", script]).await;
    let link = world.link(5003).await;
    let mut text = String::new();
    eventually("it listens", async || {
        let answer = world.get(&link, "/").await;
        assert_eq!(answer.status(), 502);
        text = answer.text().await.expect("text");
        !text.contains("Nothing listens")
    })
    .await;
    assert!(text.contains("does not speak HTTP"), "{text}");
}
