//! WebSockets: passed through, and ended with their preview.

use futures::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::world::{Link, PORT, World};

async fn open(world: &World, link: &Link, path: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}{path}", world.host(link)).into_client_request().expect("a request");
    request.headers_mut().insert("cookie", link.cookie().parse().expect("a value"));
    let stream = TcpStream::connect(world.address).await.expect("connects");
    client_async(request, stream).await.map(|(socket, _)| socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_from_the_other_side() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    let mut socket = open(&world, &link, "/ws").await.expect("opens");
    for text in ["hello", "", &"long ".repeat(2000)] {
        socket.send(Message::text(text)).await.expect("sent");
        let echoed = timeout(Duration::from_secs(30), socket.next()).await.expect("in time").expect("open");
        assert_eq!(echoed.expect("a message"), Message::text(text));
    }
    socket.close(None).await.expect("closes");
    // What is no WebSocket inside is told as what it is.
    assert!(matches!(open(&world, &link, "/other").await, Err(Error::Http(response)) if response.status() == 404));
    let unknown = world.link(5002).await;
    assert!(matches!(open(&world, &unknown, "/ws").await, Err(Error::Http(response)) if response.status() == 502));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_one_is_ended_and_one_that_talks_is_not() {
    let world = World::with(|options| options.idle_timeout = Duration::from_secs(2)).await;
    let link = world.link(PORT).await;
    let (mut silent, mut lively) =
        (open(&world, &link, "/ws").await.expect("opens"), open(&world, &link, "/ws").await.expect("opens"));
    let talk = async {
        loop {
            lively.send(Message::text("still here")).await.expect("sent");
            assert!(lively.next().await.expect("open").is_ok());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = async { while let Some(Ok(_)) = silent.next().await {} };
    tokio::select! {
        () = ended => {}
        () = talk => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("a silent WebSocket is never ended"),
    }
    lively.send(Message::text("and now")).await.expect("sent");
    while lively.next().await.expect("open").expect("whole") != Message::text("and now") {}
}
