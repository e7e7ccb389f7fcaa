//! The frozen surface: what is on the wire, byte for byte. A difference here is a new protocol version.

use bytes::BytesMut;
use guest_protocol::{
    Exit, Failure, FailureCode, Frame, HEADER_LEN, Kind, MAX_CONTROL, MAX_DATA, Pong, Port, Reply, Request, Spawn,
    TaskState, VERSION, WireError, decode, encode, header,
};
use proptest::prelude::*;

#[test]
fn the_surface_is_frozen() {
    let command = Spawn {
        argv: vec!["bash".into(), "-c".into(), "true".into()],
        cwd: "/workspace".into(),
        env: vec![("A".into(), "1".into())],
        timeout_ms: Some(120_000),
        group: "run_1".into(),
        stdin: true,
    };
    let requests = [
        Request::Ping,
        Request::Spawn(command.clone()),
        Request::ReadFile { path: "/a".into(), offset: 1, limit: 2 },
        Request::WriteFile { path: "/a".into(), size: 3 },
        Request::StartBackground { command, output: "/o".into(), output_limit: 4 },
        Request::BackgroundStatus { task: "t".into() },
        Request::StopBackground { task: "t".into() },
        Request::KillGroup { group: "run_1".into() },
        Request::KillOverDisk,
        Request::Ports,
        Request::Connect { port: 5000 },
    ];
    let replies = [
        Reply::Pong(Pong { foreground: 1, background: 2, lingering: 3, forwards: 4 }),
        Reply::Started { pid: 7 },
        Reply::Exited { exit: Exit::Code(0) },
        Reply::Exited { exit: Exit::Signal(9) },
        Reply::Exited { exit: Exit::TimedOut },
        Reply::Exited { exit: Exit::OutOfMemory },
        Reply::Exited { exit: Exit::OverDisk },
        Reply::Exited { exit: Exit::Killed },
        Reply::File { size: 5, modified_ms: 6 },
        Reply::Written { created: true, modified_ms: 6 },
        Reply::Background { task: "t".into() },
        Reply::Task(TaskState { exit: None, output_bytes: 8 }),
        Reply::Stopped { ran: true },
        Reply::Killed { trees: 2 },
        Reply::Ports { ports: vec![Port { port: 5000, pid: Some(7), process: Some("python3".into()) }] },
        Reply::Connected,
        Reply::Failed(Failure { code: FailureCode::NotFound, message: "no such file".into() }),
    ];
    let lines = |kind, frames: Vec<bytes::Bytes>| -> String {
        frames
            .into_iter()
            .map(|frame| {
                assert_eq!(frame[4..6], [VERSION, kind as u8]);
                format!("{kind:?} {}\n", String::from_utf8_lossy(&frame[HEADER_LEN..]))
            })
            .collect()
    };
    let mut surface = format!("version {VERSION}, control {MAX_CONTROL}, data {MAX_DATA}\n");
    surface += &lines(Kind::Request, requests.iter().map(|r| encode(Kind::Request, r).expect("short")).collect());
    surface += &lines(Kind::Reply, replies.iter().map(|r| encode(Kind::Reply, r).expect("short")).collect());
    surface += &format!("header of 258 bytes of stdout {:?}\n", header(Kind::Stdout, 258).expect("short"));
    insta::assert_snapshot!(surface);
}

#[test]
fn a_frame_over_its_limit_is_refused_before_its_body_comes() {
    for kind in
        [Kind::Request, Kind::Reply, Kind::Stdin, Kind::StdinEnd, Kind::Stdout, Kind::Stderr, Kind::Data, Kind::End]
    {
        let mut bytes = BytesMut::from(&header(kind, kind.max_len()).expect("at the limit")[..]);
        if kind.max_len() > 0 {
            assert!(matches!(decode(&mut bytes), Ok(None)), "{kind:?}");
        }
        let mut over = BytesMut::from(&(kind.max_len() as u32 + 1).to_be_bytes()[..]);
        over.extend_from_slice(&[VERSION, kind as u8]);
        assert!(matches!(decode(&mut over), Err(WireError::TooLong { .. })), "{kind:?}");
        assert!(header(kind, kind.max_len() + 1).is_err());
    }
}

#[test]
fn another_version_or_kind_is_refused() {
    assert!(matches!(decode(&mut BytesMut::from(&[0, 0, 0, 0, VERSION + 1, 1][..])), Err(WireError::Version(_))));
    assert!(matches!(decode(&mut BytesMut::from(&[0, 0, 0, 0, VERSION, 99][..])), Err(WireError::UnknownKind(99))));
}

proptest! {
    #[test]
    fn frames_survive_any_chopping(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), step in 1usize..64) {
        let mut wire = Vec::new();
        for body in &bodies {
            wire.extend_from_slice(&header(Kind::Data, body.len()).expect("short"));
            wire.extend_from_slice(body);
        }
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(Frame { kind, body }) = decode(&mut buffer).expect("valid") {
                prop_assert_eq!(kind, Kind::Data);
                read.push(body.to_vec());
            }
        }
        prop_assert_eq!(read, bodies);
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&noise[..]);
        while let Ok(Some(_)) = decode(&mut buffer) {}
    }
}
